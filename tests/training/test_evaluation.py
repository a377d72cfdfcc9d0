from reelseek.training.evaluation import MAX_BANK, sample_bank


def test_a_small_bank_is_whole():
    captions = [f"film {number}" for number in range(MAX_BANK)]
    assert sorted(sample_bank(captions)) == sorted(captions)


def test_a_large_bank_is_a_sample_that_depends_on_no_order_and_no_seed():
    captions = [f"film {number}" for number in range(5 * MAX_BANK)]
    sample = sample_bank(captions)
    assert len(set(sample)) == MAX_BANK
    assert sample_bank(captions[::-1]) == sample
    # From all of the list: a fifth of each half, to within five deviations.
    first_half = sum(int(caption.split()[1]) < len(captions) // 2 for caption in sample)
    assert abs(first_half - MAX_BANK / 2) < 5 * (MAX_BANK / 4) ** 0.5


def test_a_sample_stays_where_captions_are_added():
    captions = [f"film {number}" for number in range(3 * MAX_BANK)]
    before, after = (set(sample_bank(some)) for some in (captions[: 2 * MAX_BANK], captions))
    assert after & set(captions[: 2 * MAX_BANK]) <= before
