"""Which recordings do the clips come from, and which were left out?"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from reprise.report.results import Results

N_TAGS = 10
N_LEFT_OUT = 500  # recordings listed as left out; the stores' manifests list all


def recordings_view(study: Results) -> dict[str, Any]:
    """The recordings of the clips, their licences, those that were left out, and those that can be played on the page.

    {} if the clips come from prompts.
    """
    if not study.tracks:
        return {}
    gone = {left["track_id"] for left in study.left_out}
    used = {track.track_id: track for track in study.tracks if track.track_id not in gone}
    licences = Counter(track.licence or "not stated" for track in used.values())
    tags = Counter(tag for track in used.values() for tag in track.tags)
    of_clip = dict(zip(study.clip_summaries["clip_id"], study.clip_summaries["prompt_id"], strict=True))
    played = [clip.clip_id for clip in study.examples]
    played += [clip.clip_id for edited in study.edited.values() for clip in edited]
    heard = [used[track_id] for track_id in dict.fromkeys(of_clip[clip_id] for clip_id in played)]
    lists = {
        "Recordings that were left out": [f"{left['path']}: {left['reason']}" for left in study.left_out],
        "Cuts that were left out": [f"{left['path']}: {left['reason']}" for left in study.cuts_left_out],
        "Recordings that are damaged": [f"{one['path']}: {one['reason']}" for one in study.damaged],
    }
    return {
        "source": study.settings["source"],
        "from_s": f"{study.settings['recordings']['continue_from_s']:g}",
        "n_tracks": len(study.tracks),
        "n_used": len(used),
        "n_clips": len(study.clip_summaries),
        "facts": [
            ("licences", "; ".join(f"{licence}: {n}" for licence, n in licences.most_common())),
            *([("tags", ", ".join(f"{tag} {n}" for tag, n in tags.most_common(N_TAGS)))] if tags else []),
        ],
        "credits": [
            f"{track.track_id}: {track.source or 'source not stated'} ({track.licence or 'licence not stated'})"
            for track in heard
        ],
        "kinds": _kinds(study.left_out),
        "n_left_out": len(study.left_out),
        "cuts_kinds": _kinds(study.cuts_left_out),
        "n_cuts_left_out": len(study.cuts_left_out),
        "lists": [
            {"title": title, "lines": lines[:N_LEFT_OUT], "n": len(lines)} for title, lines in lists.items() if lines
        ],
    }


def _kinds(left_out: Sequence[Mapping[str, Any]]) -> str:
    """The kinds of reasons, with the number of each."""
    kinds = Counter(left["reason"].partition(":")[0].partition(",")[0] for left in left_out)
    return ", ".join(f"{kind} {n}" for kind, n in kinds.most_common())
