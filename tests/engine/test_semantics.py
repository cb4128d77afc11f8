"""What a run means: order, schedule, steps, divergence."""

import hashlib
import itertools
import json
import math

import pytest
import torch

from llmpred.engine import semantics
from llmpred.spec.run import OptimSpec

LENGTHS = [(7 * i) % 53 + 5 for i in range(1000)]


def optim(**fields: object) -> OptimSpec:
    if "epochs" not in fields:
        fields.setdefault("max_steps", 10)
    return OptimSpec.model_validate(fields)


def epochs(lengths: list[int], size: int, seed: int, count: int) -> list[list[list[int]]]:
    """Return the batches of the first epochs."""
    a_epoch = math.ceil(len(lengths) / size)
    stream = semantics.batches(lengths, size, seed)
    return [list(itertools.islice(stream, a_epoch)) for _ in range(count)]


@pytest.mark.parametrize("size", [1, 16, 7, 1000, 4000])
def test_every_epoch_has_every_example_once(size: int) -> None:
    first, second = epochs(LENGTHS, size, 3, 2)
    for epoch in (first, second):
        assert sorted(i for batch in epoch for i in batch) == list(range(1000))
        assert max(map(len, epoch)) == min(size, 1000)
    if size < 1000:
        assert first != second


def test_the_order_depends_on_the_seed_and_is_the_same_on_every_machine() -> None:
    def digest(seed: int) -> str:
        return hashlib.sha256(json.dumps(epochs(LENGTHS, 16, seed, 2)).encode()).hexdigest()[:16]

    assert digest(0) != digest(1)
    assert digest(0) == "6a65e3dff37c00ba"
    assert epochs(LENGTHS, 16, -1, 1)  # any integer is a seed


def test_a_batch_is_drawn_at_random_and_sorted_by_length() -> None:
    (epoch,) = epochs(LENGTHS, 16, 0, 1)
    spread = [max(LENGTHS[i] for i in b) - min(LENGTHS[i] for i in b) for b in epoch]
    assert sum(spread) / len(spread) > 40  # of 52
    assert all([LENGTHS[i] for i in b] == sorted(LENGTHS[i] for i in b) for b in epoch)


def test_which_examples_share_a_step_does_not_depend_on_their_lengths() -> None:
    (epoch,) = epochs(LENGTHS, 16, 0, 1)
    (other,) = epochs([1] * 1000, 16, 0, 1)
    assert [sorted(b) for b in epoch] == [sorted(b) for b in other]


@pytest.mark.parametrize(
    ("fields", "examples", "steps"),
    [
        ({"max_steps": 7}, 100, 7),
        ({"epochs": 3, "batch_size": 16}, 100, 21),
        ({"epochs": 0.5, "batch_size": 10}, 100, 5),
        ({"epochs": 0.01, "batch_size": 10}, 100, 1),
        ({"epochs": 2, "batch_size": 64}, 10, 2),
    ],
)
def test_total_steps(fields: dict[str, float], examples: int, steps: int) -> None:
    assert semantics.total_steps(optim(**fields), examples) == steps


@pytest.mark.parametrize(
    ("fields", "factors"),
    [
        ({"schedule": "constant"}, [1.0] * 10),
        ({"schedule": "linear"}, [1 - i / 10 for i in range(10)]),
        ({"schedule": "cosine"}, [(1 + math.cos(math.pi * i / 10)) / 2 for i in range(10)]),
        ({"schedule": "constant", "warmup": 0.2}, [1 / 3, 2 / 3, *[1.0] * 8]),
        ({"schedule": "constant", "warmup": 2}, [1 / 3, 2 / 3, *[1.0] * 8]),
        ({"schedule": "linear", "warmup": 0.15}, [1 / 3, 2 / 3, *[1 - i / 8 for i in range(8)]]),
        (
            {"schedule": "cosine", "warmup": 5},
            [
                *[i / 6 for i in range(1, 6)],
                *[(1 + math.cos(math.pi * i / 5)) / 2 for i in range(5)],
            ],
        ),
    ],
)
def test_lr_factor(fields: dict[str, object], factors: list[float]) -> None:
    got = [semantics.lr_factor(optim(**fields), 10, step) for step in range(10)]
    assert got == pytest.approx(factors)


def test_lr_factor_ends_at_zero() -> None:
    for schedule in ("linear", "cosine"):
        assert semantics.lr_factor(optim(schedule=schedule), 10, 10) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([], False),
        ([2.0] * 20, False),
        ([2.0, 1.0, 0.5, 0.1], False),
        ([2.0, 4.1], True),
        ([0.01, 0.4], False),  # many times the start, but still small
        ([2.0, 50.0, 2.0], False),  # a spike that heals
        ([2.0, math.nan], True),
        ([2.0, math.inf, 1.0], True),
        ([1.0] * 18 + [9.0] * 2, True),
        ([1.0] * 19 + [9.0], True),  # the mean of the last two is 5
    ],
)
def test_diverged(losses: list[float], expected: bool) -> None:
    curve = [{"loss": loss, "grad_norm": 1.0} for loss in losses]
    assert semantics.diverged(curve) is expected


def test_a_gradient_that_is_not_finite_is_divergence() -> None:
    assert semantics.diverged([{"loss": 1.0, "grad_norm": math.inf}])
    assert not semantics.finite({"loss": 1.0, "grad_norm": math.nan})


def test_only_matrices_decay() -> None:
    model = torch.nn.Linear(3, 2)
    groups = semantics.optimizer(model, optim(weight_decay=0.1)).param_groups
    assert [(g["weight_decay"], [p.ndim for p in g["params"]]) for g in groups] == [
        (0.1, [2]),
        (0.0, [1]),
    ]


def test_a_step_draws_by_seed_and_step_alone() -> None:
    def drawn(seed: int, step: int) -> float:
        semantics.seed_step(seed, step)
        return float(torch.rand(()))

    first = drawn(1, 5)
    torch.rand(100)
    assert drawn(1, 5) == first
    assert len({drawn(seed, step) for seed in (0, 1, -1) for step in range(5)}) == 15
    assert first == pytest.approx(0.8694213628768921)


def test_token_loss_is_the_share_of_the_global_mean() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 4, 9), torch.randint(0, 9, (3, 4))
    labels[0, :2] = semantics.IGNORED
    by_hand = sum(
        -torch.log_softmax(logits[r, p], -1)[labels[r, p]]
        for r in range(3)
        for p in range(4)
        if labels[r, p] >= 0
    )
    got = semantics.token_loss(logits, labels, 50)
    assert float(got) == pytest.approx(float(by_hand) / 50, rel=1e-6)


# --- stages ---------------------------------------------------------------------------------------


STAGES = [
    {"trains": "head", "lr": 5e-4, "epochs": 2},
    {"trains": "all", "lr": 2e-5, "max_steps": 3},
]


def staged() -> OptimSpec:
    return OptimSpec.model_validate({"stages": STAGES, "batch_size": 10})


def test_stages_follow_one_another() -> None:
    found = semantics.stages(staged(), 25)
    assert [(part.lr, steps) for part, steps in found] == [(5e-4, 6), (2e-5, 3)]
    assert semantics.total_steps(staged(), 25) == 9
    head = [semantics.trains_head_alone(staged(), 25, step) for step in range(9)]
    assert head == [True] * 6 + [False] * 3
    assert not semantics.trains_head_alone(optim(), 25, 0)


def test_each_stage_has_a_schedule_of_its_own() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([weight], lr=staged().lr)
    schedule = semantics.scheduler(optimizer, staged(), 25)
    lrs = []
    for _ in range(9):
        lrs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    linear = [5e-4 * (1 - i / 6) for i in range(6)] + [2e-5 * (1 - i / 3) for i in range(3)]
    assert lrs == pytest.approx(linear)


# --- losses of heads ------------------------------------------------------------------------------


def test_ordinal_probabilities_are_differences_of_the_cumulative_ones() -> None:
    logits = torch.tensor([[2.0, 0.5, -1.0], [30.0, 29.0, -40.0]])
    above = torch.sigmoid(logits.double())
    ones, zeros = torch.ones(2, 1), torch.zeros(2, 1)
    naive = torch.cat([ones, above], 1) - torch.cat([above, zeros], 1)
    found = semantics.ordinal_scores(logits)
    assert torch.allclose(found.exp().double(), naive, atol=1e-6)
    assert torch.isfinite(found).all()
    labels = torch.tensor([1, 2])
    loss = semantics.ordinal_loss(logits, labels, 2.0)
    assert float(loss) == pytest.approx(-found[[0, 1], labels].mean().item())
    weighted = semantics.ordinal_loss(logits, labels, 2.0, torch.tensor([3.0, 0.0]))
    assert float(weighted) == pytest.approx(-3 * found[0, 1].item() / 2)


def test_the_pinball_loss_is_scikit_learn_s() -> None:
    from sklearn.metrics import mean_pinball_loss

    levels, values = (0.1, 0.5, 0.9), torch.tensor([0.0, 1.0, -2.0, 4.0])
    outputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    found = semantics.quantile_loss(outputs, values, levels, 4.0)
    theirs = [
        mean_pinball_loss(values.numpy(), outputs[:, i].numpy(), alpha=level)
        for i, level in enumerate(levels)
    ]
    assert float(found) == pytest.approx(sum(theirs) / 3)


def test_the_squared_error_is_a_mean_over_the_global_batch() -> None:
    outputs, values = torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 1.0])
    assert float(semantics.value_loss(outputs, values, 4.0)) == pytest.approx((1 + 4) / 4)


def test_a_head_says_log_probabilities_or_what_it_puts_out() -> None:
    outputs = torch.tensor([[1.0, 2.0]])
    assert torch.equal(semantics.head_scores(outputs, "mse"), outputs)
    assert torch.equal(semantics.head_scores(outputs, "pinball"), outputs)
    assert semantics.head_scores(outputs, None).exp().sum() == pytest.approx(1.0)
    assert semantics.head_scores(outputs, "ordinal").shape == (1, 3)
