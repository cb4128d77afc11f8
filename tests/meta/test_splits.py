import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from llmpred.errors import DataError
from llmpred.meta.splits import fold_numbers, group_folds, group_splits, random_splits

GROUPS = np.array([0, 0, 0, 1, 1, 2, 3, 3, 3, 3, 4, 5, 6, 6])


def test_random_splits_are_those_of_scikit_learn():
    for seed, split in enumerate(random_splits(50, 0.28, 3)):
        train, test = train_test_split(np.arange(50), test_size=0.28, random_state=seed)
        np.testing.assert_array_equal(split.train, train)
        np.testing.assert_array_equal(split.test, test)


def test_group_splits_are_those_of_the_names():
    for seed, split in enumerate(group_splits(GROUPS, 0.28, 4)):
        _, held = train_test_split(np.unique(GROUPS), test_size=0.28, random_state=seed)
        assert set(GROUPS[split.test]) == set(held)


@pytest.mark.parametrize(
    "splits", [group_splits(GROUPS, 0.3, 5), group_folds(GROUPS, 3, 5)], ids=["share", "folds"]
)
def test_no_group_is_on_both_sides(splits: list):
    for split in splits:
        assert not set(GROUPS[split.train]) & set(GROUPS[split.test])
        assert sorted([*split.train, *split.test]) == list(range(len(GROUPS)))


def test_all_folds_test_every_row_once_a_seed():
    splits = group_folds(GROUPS, 3, 2)
    for seed in (0, 1):
        tested = np.concatenate([s.test for s in splits if s.seed == seed])
        assert sorted(tested) == list(range(len(GROUPS)))
    assert [s.test.tolist() for s in splits[:3]] != [s.test.tolist() for s in splits[3:]]


def test_more_folds_than_groups_leave_one_group_out():
    assert len(group_folds(GROUPS, 100, 1)) == 7


def test_one_group_cannot_be_split_by():
    for split in (lambda g: group_splits(g, 0.3, 1), lambda g: group_folds(g, 3, 1)):
        with pytest.raises(DataError, match="at least 2 groups"):
            split(np.zeros(9, dtype=np.int64))


@pytest.mark.parametrize("groups", [GROUPS, np.arange(14)], ids=["uneven", "even"])
def test_inner_folds_keep_groups_whole_and_are_balanced(groups: np.ndarray):
    folds = fold_numbers(groups, 3, 0)
    assert all(len(set(folds[groups == g])) == 1 for g in np.unique(groups))
    assert np.ptp(np.bincount(folds)) <= 1
    np.testing.assert_array_equal(folds, fold_numbers(groups, 3, 0))
