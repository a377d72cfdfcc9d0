import numpy as np

from benchmarks.user_simulator import SimulatorSettings, UserSimulator

SMALL = SimulatorSettings(num_users=50, num_videos=400, num_topics=8, seconds_between_visits=10.0)


def run(rank, *, settings=SMALL, seconds=6000.0, seed=0):
    """Returns, of each visit, the reciprocal rank of the first click."""
    simulator = UserSimulator(settings, seed=seed)
    found = []
    for visit in simulator.visits(seconds):
        clicks = [
            each.position for each in simulator.react(visit, rank(simulator, visit)) if each.clicked
        ]
        found.append(1 / clicks[0] if clicks else 0.0)
    return found


def by_relevance(simulator, visit):
    return visit.candidates[np.argsort(~visit.relevant, kind="stable")]


def by_taste(simulator, visit):
    attraction = [-simulator.attraction(visit, video) for video in visit.candidates.tolist()]
    return visit.candidates[np.argsort(attraction, kind="stable")]


def test_the_same_seed_gives_the_same_users():
    assert run(by_relevance) == run(by_relevance)
    assert run(by_relevance) != run(by_relevance, seed=1)


def test_tastes_can_be_learned_and_relevance_counts():
    relevant, tasteful = np.mean(run(by_relevance)), np.mean(run(by_taste))
    irrelevant = np.mean(run(lambda _, visit: visit.candidates[~visit.relevant]))
    assert irrelevant < 0.1 < relevant
    assert tasteful > 1.3 * relevant


def test_tastes_drift_and_videos_come():
    simulator = UserSimulator(SMALL)
    before = simulator.tastes.copy()
    for _ in simulator.visits(2 * 86_400.0):
        pass
    same = np.corrcoef(before.ravel(), simulator.tastes.ravel())[0, 1]
    assert 0.8 < same < 0.97
    assert len(simulator.topic) > 500
    assert abs(simulator.tastes.std() - SMALL.taste) < 0.2
