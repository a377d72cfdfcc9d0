"""What people decided about single videos through the service, applied to the videos of a run."""

from dataclasses import replace

from reelseek.indexing.shards.opening import AnyCatalogue
from reelseek.indexing.sources.collection import VideoItem
from reelseek.indexing.sources.roots import Collection
from reelseek.indexing.store.edits import changed_metadata


def keep_edits(catalogue: AnyCatalogue, collection: Collection) -> None:
    """Takes excluded videos out of a collection, and changes the metadata that lists give."""
    excluded = catalogue.excluded()
    names = {(video.root, video.key) for video in excluded}
    paths = {video.path for video in excluded}
    edits, public_ids = catalogue.edits(), catalogue.public_ids()

    def edited(item: VideoItem) -> VideoItem:
        changes = edits.get(public_ids.get(item.root_and_key, ""))
        if changes is None or not item.is_described:  # else the catalogue has the changed metadata
            return item
        return replace(item, metadata=changed_metadata(item.metadata, changes))

    collection.items = [
        edited(item)
        for item in collection.items
        if item.root_and_key not in names and item.address not in paths
    ]


def drop_edits(catalogue: AnyCatalogue, collection: Collection) -> None:
    """Forgets the edits of the videos of a collection, which are to be as their sources say."""
    items = {item.root_and_key: item for item in collection.items}
    paths = {item.address for item in collection.items}
    again = [
        video
        for video in catalogue.excluded()
        if (video.root, video.key) in items or video.path in paths
    ]
    if again:
        catalogue.include(again)
    edits = catalogue.edits()
    if edits:
        described = {name for name, item in items.items() if item.is_described}
        public_ids = catalogue.public_ids()
        catalogue.drop_edits({public_ids[name] for name in described & public_ids.keys()})
