"""The process that downloads: img2dataset's downloader, on our opener.

A process of its own because img2dataset takes urllib's opener from the process it runs in, because its import
is heavy and asks a server for news, and because it prints what it likes. It reads one JSON object a line from
standard input, the options first, then chunks, and answers each chunk with a line when it is done; several
are worked on at a time. It ends with its parent.
"""

import json
import os
import queue
import signal
import sys
import threading
import traceback
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.fetch.chunks import ChunkWriter
from curate.fetch.opener import GuardedOpener
from curate.fetch.options import DownloadOptions

if TYPE_CHECKING:
    from img2dataset.downloader import Downloader

CHUNK = 128


def main() -> None:
    """Work until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    chunks = _listen()
    given = chunks.get()
    options = DownloadOptions(**{name: _tuple(value) for name, value in given.items()})
    urllib.request.install_opener(GuardedOpener(options))
    lock = threading.Lock()

    def answer(chunk: dict[str, Any]) -> None:
        try:
            found = json.dumps(_work(chunk, options))
            with lock:
                print(found, file=answers, flush=True)
        except BaseException:  # nobody would look at the thread's result
            traceback.print_exc()
            os._exit(1)

    with ThreadPoolExecutor(options.lanes) as pool:
        while True:
            pool.submit(answer, chunks.get())


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _listen() -> "queue.Queue[dict[str, Any]]":
    """Lines of standard input, read aside: when it ends, a parent that was killed included, so do we."""
    lines: queue.Queue[dict[str, Any]] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _work(chunk: dict[str, Any], options: DownloadOptions) -> dict[str, Any]:
    """Download one chunk; what the disk refused is told to the parent."""
    table = Path(chunk["table"])
    try:
        make_downloader(table.parent, options).download_shard((chunk["number"], str(table)))
    except OSError as error:
        return {"number": chunk["number"], "errno": error.errno, "message": str(error.strerror or error)}
    return {"number": chunk["number"]}


def make_downloader(folder: Path, options: DownloadOptions) -> "Downloader":
    """img2dataset's downloader that writes chunks to `folder`: nothing re-encoded, opt-outs obeyed. What
    fails is tried again in later rounds, after a pause, and not by img2dataset, which would do it at once
    and ask again for what is not there."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask a server for its newest version
    from img2dataset.downloader import Downloader
    from img2dataset.resizer import Resizer

    return Downloader(
        sample_writer_class=ChunkWriter,
        resizer=Resizer(256, "no", False, disable_all_reencoding=True),
        thread_count=-(-options.threads // options.lanes),
        save_caption=False,
        extract_exif=False,
        output_folder=str(folder),
        column_list=["url", "place"],
        timeout=options.timeout,
        number_sample_per_shard=CHUNK,
        oom_shard_count=6,
        compute_hash=None,
        verify_hash_type=None,
        encode_format="jpg",
        retries=0,
        user_agent_token=options.user_agent_token,
        disallowed_header_directives=list(options.directives),
    )


if __name__ == "__main__":
    main()
