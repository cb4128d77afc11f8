from tests.quick import quick

__all__ = ["quick"]
