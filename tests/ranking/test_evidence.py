from reelseek.ranking import Evidence, explain


def test_evidence_reads_in_one_line():
    found = Evidence("lexical", rank=2, score=7.311, detail="caption:\n dog", contribution=0.016)
    assert str(found) == "lexical #2 7.31 (caption: dog) +0.016"
    assert str(Evidence("video", score=0.3333)) == "video 0.333"


def test_what_contributed_most_comes_first_and_the_unknown_last():
    line = explain(
        [
            Evidence("date"),
            Evidence("video", rank=9, contribution=0.01),
            Evidence("without", contribution=-0.2),
        ]
    )
    assert line == "without -0.200; video #9 +0.010; date"
    assert explain([]) == "no evidence"
