import resource

from curate.index.open_files import allow_open_files


def test_the_soft_limit_grows_with_the_parts_and_never_shrinks():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (600, hard))
        allow_open_files(10)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 600
        allow_open_files(100)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 712
        allow_open_files(1)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 712
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
