"""Miniatures of caption files, in the format in which each is published."""

import json

MSRVTT = {
    "info": {"contributor": "Microsoft", "data_created": "2016-04-14 14:30:20", "year": "2016"},
    "videos": [
        {
            "category": 9,
            "url": f"https://www.youtube.com/watch?v=abc{i}",
            "video_id": f"video{i}",
            "start time": 137.72,
            "end time": 149.44,
            "split": split,
            "id": i,
        }
        for i, split in enumerate(["train", "train", "validate", "test"])
    ],
    "sentences": [
        {"caption": "a cat eats", "video_id": "video1", "sen_id": 0},
        {"caption": "a man sings", "video_id": "video0", "sen_id": 1},
        {"caption": "a cat eats", "video_id": "video1", "sen_id": 2},
        {"caption": "a dog runs", "video_id": "video2", "sen_id": 3},
        {"caption": "cars drive", "video_id": "video3", "sen_id": 4},
        {"caption": "someone is singing", "video_id": "video0", "sen_id": 5},
    ],
}

DIDEMO = [
    {
        "num_segments": 6,
        "description": description,
        "dl_link": "https://www.flickr.com/video_download.gne?id=6060447507",
        "times": [[1, 1], [1, 1], [0, 2], [0, 0]],
        "video": video,
        "annotation_id": annotation_id,
    }
    for video, annotation_id, description in [
        ("35034348999@N01_6060447507_dc1a90b8ef.mov", 49152, "a man bends over the machine \n"),
        ("39727414@N00_3622114091_452b89919c.avi", 40961, "the baby is first shown."),
        ("35034348999@N01_6060447507_dc1a90b8ef.mov", 21844, "a man  waves"),
        ("86091119@N00_8027493026_992e5e1068.", 7, "a dog"),
    ]
]

ACTIVITYNET = {
    "v_uqiMw7tQ1Cc": {
        "duration": 55.15,
        "timestamps": [[0.28, 55.15], [13.79, 54.32]],
        "sentences": ["A tutorial is given.", "  The coach helps the guy in red."],
    },
    "v_-bXdq2zI1Ms": {
        "duration": 73.1,
        "timestamps": [[0, 10.23]],
        "sentences": ["A man hits a pi\u00f1ata."],
    },
}

MSVD_DESCRIPTIONS = """\
# Microsoft Research Video Description Corpus
# VideoID_Start_End Description

-4wsuPCjDBc_5_15 a squirrel is eating a peanut in it's shell
-4wsuPCjDBc_5_15 a chipmunk is eating
bQJQGo_F7_k_162_169 a man cuts a carrot
-4wsuPCjDBc_5_15 a chipmunk is eating
"""

MSVD_PICKLE = {
    "-4wsuPCjDBc_5_15": [["a", "squirrel", "is", "eating"], ["a", "chipmunk", "eats"]],
    "bQJQGo_F7_k_162_169": [["a", "man", "cuts", "a", "carrot"]],
}


def write_json(path, value):
    path.write_text(json.dumps(value))
    return str(path)


def write_text(path, text):
    path.write_text(text)
    return str(path)


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return str(folder)


def captions_by_key(items):
    return {item.key: item.metadata["captions"] for item in items}
