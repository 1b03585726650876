"""`vcl build` for programs: from a profile or a spec to disks that boot.

spec = load_profile("server", {"system": {"hostname": "web1"}})
built = build(spec, Path("web1"), patience=Patience(1800))
"""

from vcl_provision.images.builder.building import build, build_image, cached_image, spec_digest, usual_cache
from vcl_provision.images.builder.cache import Cache
from vcl_provision.images.builder.deploy.targets import Target
from vcl_provision.images.builder.deployment import Built
from vcl_provision.images.builder.log import BuildLog
from vcl_provision.images.builder.plan import ONE_WEEK, Plan, Stage, plan_build, stages
from vcl_provision.images.builder.profiles import (
    find_profile,
    load_profile,
    merged,
    profile_names,
    read_profile,
    read_spec,
    write_profile,
)
from vcl_provision.images.builder.spec import BuildSpec

__all__ = [
    "ONE_WEEK",
    "BuildLog",
    "BuildSpec",
    "Built",
    "Cache",
    "Plan",
    "Stage",
    "Target",
    "build",
    "build_image",
    "cached_image",
    "find_profile",
    "load_profile",
    "merged",
    "plan_build",
    "profile_names",
    "read_profile",
    "read_spec",
    "spec_digest",
    "stages",
    "usual_cache",
    "write_profile",
]
