import numpy as np

from llmpred.bases.pretraining.ngram import trigram, unigram


def test_unigram_counts_plus_one():
    np.testing.assert_allclose(np.exp(unigram(np.array([0, 0, 1]), 3)), [3 / 6, 2 / 6, 1 / 6])


def test_trigram_by_hand():
    """The stream a b a b c, as 0 1 0 1 2: worked out by hand.

    Trigrams aba, bab, abc once each: D = 3 / 3 = 1, so the discounted counts are all 0 and every
    seen context gives its whole mass to the order below. Continuation bigrams: ba (after a), ab
    (after b), bc (after a), each once: D = 1 too. Continuation unigrams a, b, c, each once: D = 1,
    so they give all to the uniform distribution: 1/3 everywhere.
    """
    model = trigram(np.array([0, 1, 0, 1, 2]), 3)
    one = np.array([0])
    for token in range(3):
        got = model.log_probability(one, one + 1, one + token)
        np.testing.assert_allclose(np.exp(got), 1 / 3)


def test_trigram_with_discount_by_hand():
    """The stream 0 0 0 0 1 over two tokens.

    Trigrams: 000 twice, 001 once: n1 = 1, n2 = 1, D = 1/3. Continuations: 00 after {0}: 1, 01: 1;
    n1 = 2, n2 = 0, D = 1. Unigrams: 0 after {0}: 1, 1 after {0}: 1, D = 1: uniform 1/2. Bigrams
    give all to it: 1/2. P(0|00) = (2 - 1/3)/3 + (1/3 × 2/3) × 1/2 = 5/9 + 1/9 = 2/3.
    """
    model = trigram(np.array([0, 0, 0, 0, 1]), 2)
    zero = np.array([0])
    np.testing.assert_allclose(np.exp(model.log_probability(zero, zero, zero)), 2 / 3)
    np.testing.assert_allclose(np.exp(model.log_probability(zero, zero, zero + 1)), 1 / 3)
    # 1 0 was never seen as a context: the bigram answers.
    np.testing.assert_allclose(np.exp(model.log_probability(zero + 1, zero, zero)), 1 / 2)


def test_probabilities_sum_to_one():
    rng = np.random.default_rng(0)
    stream = (rng.zipf(1.5, 2000) % 20).astype(np.uint16)
    model = trigram(stream, 20)
    for first, second in rng.integers(0, 20, (30, 2)):
        tokens = np.arange(20)
        logs = model.log_probability(np.full(20, first), np.full(20, second), tokens)
        np.testing.assert_allclose(np.exp(logs).sum(), 1.0)
    unseen = rng.integers(0, 20, (200, 3))
    mean = -model.log_probability(*unseen.T).mean()
    assert -model.log_probability(*stream[:300].reshape(-1, 3).astype(int).T).mean() < mean
