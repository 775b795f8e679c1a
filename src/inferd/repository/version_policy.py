"""Which of a model's versions should be served. Pure."""

from collections.abc import Collection

from inferd.config.model import Latest, ModelVersionPolicy


def choose_versions(policy: ModelVersionPolicy, available: Collection[int]) -> tuple[int, ...]:
    """The versions to serve, lowest first; those asked for that do not exist are left out."""
    ordered = sorted(available)
    if policy.specific is not None:
        return tuple(version for version in ordered if version in policy.specific.versions)
    if policy.all is not None:
        return tuple(ordered)
    latest = policy.latest or Latest()
    return tuple(ordered[-latest.num_versions :])
