"""The recipes of docs/datasets.md, on stand-ins: invented events in files of the published shape."""

from __future__ import annotations

import gzip
import json
import random
import re
import shutil
import subprocess
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cli.command import SMALL
from data.packing import as_ids
from docs.shell import type_in
from training.tiny_runs import one_thread

from recblr.config import DataConfig
from recblr.data import Dataset
from recblr.run.folder import Run

# The examples of the page: the tests run them from here, and the page has copies.
RECIPES = r"""
# [ml-1m]
recblr train ml-1m/ratings.dat --out movielens
# [/ml-1m]
# [ml-32m]
recblr train ml-32m/ratings.csv --out movielens
# [/ml-32m]
# [amazon-2014]
recblr train ratings_Beauty.csv --columns user,item,rating,time --out beauty
# [/amazon-2014]
# [amazon-2018]
recblr train All_Beauty.csv --columns item,user,rating,time --out beauty
# [/amazon-2018]
# [amazon-2018-json]
recblr train All_Beauty_5.json.gz --user-column reviewerID --item-column asin \
    --time-column unixReviewTime --out beauty
# [/amazon-2018-json]
# [amazon-2023]
recblr train All_Beauty.jsonl.gz --item-column parent_asin --out beauty
# [/amazon-2023]
# [yelp]
recblr train yelp_academic_dataset_review.json --item-column business_id --time-column date --out yelp
# [/yelp]
# [steam]
recblr train steam_reviews.json.gz --user-column username --item-column product_id --time-column date \
    --out steam
# [/steam]
# [gowalla]
recblr train loc-gowalla_totalCheckins.txt.gz --columns user,time,-,-,item --out gowalla
# [/gowalla]
# [foursquare]
recblr train dataset_TSMC2014_NYC.txt --columns user,item,-,-,-,-,-,time --encoding latin-1 --out nyc
# [/foursquare]
# [lastfm]
recblr train userid-timestamp-artid-artname-traid-traname.tsv --columns user,time,-,item,-,- \
    --no-quotes --out artists
# [/lastfm]
# [lastfm-tracks]
recblr train userid-timestamp-artid-artname-traid-traname.tsv --columns user,time,-,-,item,- \
    --no-quotes --drop-incomplete --out tracks
# [/lastfm-tracks]
# [yoochoose]
recblr train yoochoose-clicks.dat --columns user,time,item,- --min-user-events 3 --out yoochoose
# [/yoochoose]
# [diginetica]
recblr train train-item-views.csv --user-column sessionId --time-column eventdate+timeframe \
    --offset-unit ms --min-user-events 3 --out diginetica
# [/diginetica]
# [otto]
recblr train otto-recsys-train.jsonl --user-column session --item-column aid --time-column ts \
    --min-user-events 3 --out otto
# [/otto]
# [taobao]
recblr train UserBehavior.csv.zip --columns user,item,-,-,time --out taobao
# [/taobao]
# [retailrocket]
recblr train events.csv --user-column visitorid --out retailrocket
# [/retailrocket]
# [hm]
recblr train transactions_train.csv --user-column customer_id --item-column article_id \
    --time-column t_dat --out hm
# [/hm]
"""

SECOND, DAY = 1_000, 86_400_000


class Event(NamedTuple):
    """user, item: numbers. at: milliseconds since 1970. kind: 0 to 2. whole: false for some events."""

    user: int
    item: int
    at: int
    kind: int
    whole: bool


def invented() -> list[Event]:
    """Users with 2 to 14 events, and a few rare items, in no order."""
    chance = random.Random(0)
    events = []
    for user in range(60):
        at, item = 1_500_000_000_000 + chance.randrange(30 * DAY), chance.randrange(25)
        for _ in range(2 + user % 13):
            at += chance.randrange(1, DAY)
            item = (item + 1) % 25
            rare = chance.random() < 0.03
            events.append(
                Event(user, 100 + user if rare else item, at, chance.randrange(3), chance.random() < 0.9)
            )
    chance.shuffle(events)
    return events


def moment(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1000, UTC)


def iso(at: int) -> str:
    return f"{moment(at):%Y-%m-%dT%H:%M:%SZ}"


@dataclass(frozen=True)
class StandIn:
    """A file in the shape of a published one.

    file: its name. text: makes its content. user, item: the ids in it. unit: how many milliseconds are
    one unit of its times. counts: whether the recipe takes an event.
    """

    file: str
    text: Callable[[Sequence[Event]], str]
    user: Callable[[int], str] = str
    item: Callable[[int], str] = str
    unit: int = SECOND
    encoding: str = "utf-8"
    counts: Callable[[Event], bool] = lambda event: True

    def write(self, folder: Path, events: Sequence[Event]) -> None:
        data = self.text(events).encode(self.encoding)
        path = folder / self.file
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(path.stem, data)
            return
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def rows(line: Callable[[Event], str], header: str = "", end: str = "\n") -> Callable[[Sequence[Event]], str]:
    """A text with a line for each event."""
    top = [header] if header else []
    return lambda events: "".join(text + end for text in [*top, *map(line, events)])


def objects(fields: Callable[[Event], dict[str, Any]]) -> Callable[[Sequence[Event]], str]:
    return rows(lambda event: json.dumps(fields(event)))


def asin(item: int) -> str:
    return f"B{item:09}"


def reviewer(user: int) -> str:
    return f"A{user:013X}"


def review_2018(e: Event) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "overall": 5.0,
        "verified": True,
        "reviewTime": f"{moment(e.at):%m %d, %Y}",
        "reviewerID": reviewer(e.user),
        "asin": asin(e.item),
        "reviewerName": 'An "alias"',
        "reviewText": "Good,\nI think",
        "summary": "Good",
        "unixReviewTime": e.at // DAY * DAY // 1000,
    }
    more: list[dict[str, Any]] = [{}, {"vote": "1,024"}, {"style": {"Size:": " 8.5 oz"}, "image": ["x.jpg"]}]
    return fields | more[e.kind]


def review_2023(e: Event) -> dict[str, Any]:
    images = [{"small_image_url": "https://x", "hi_res_image_url": None}] if e.kind else []
    return {
        "rating": 5.0,
        "title": "Good",
        "text": "Good<br />I think",
        "images": images,
        "asin": asin(e.item + 1000 * e.kind),
        "parent_asin": asin(e.item),
        "user_id": f"AE{e.user:026}",
        "timestamp": e.at,
        "helpful_vote": 0,
        "verified_purchase": True,
    }


def yelp_review(e: Event) -> dict[str, Any]:
    return {
        "review_id": f"r{e.at}",
        "user_id": f"u-_{e.user:019}",
        "business_id": f"b-_{e.item:019}",
        "stars": 3.0,
        "useful": 0,
        "funny": 0,
        "cool": 0,
        "text": 'Food, "ok".\n\nAgain?',
        "date": f"{moment(e.at):%Y-%m-%d %H:%M:%S}",
    }


def steam_review(e: Event) -> str:
    steam_id = f"u'user_id': u'7656{e.user:013}', " if e.kind == 0 else ""
    compensation = "u'compensation': u'Product received for free', " if e.kind == 1 else ""
    return (
        f"{{{compensation}u'username': {player(e.user)!r}, u'hours': 0.1, {steam_id}u'products': 41, "
        f"u'product_id': u'{e.item}', u'page_rank': 0, u'date': u'{moment(e.at):%Y-%m-%d}', "
        "u'text': u\"It's looks like C\\xf4tes\", u'early_access': False, u'page': 1}"
    )


def player(user: int) -> str:
    return f"Chaos {user}"


def artist(item: int) -> str:
    """Names with quotes, apostrophes and accents."""
    return [f'"Weird {item}" Al', f"The Dogs D'{item}", f"Björk {item}", f'{item}" Single'][item % 4]


def mbid(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-000000000000"


def play(e: Event) -> str:
    artist_id, track_id = (mbid(e.item) if e.kind else ""), (mbid(900 + e.item) if e.whole else "")
    return "\t".join(
        [f"user_{e.user:06}", iso(e.at), artist_id, artist(e.item), track_id, f'A "track" of {e.item}']
    )


def check_in(e: Event) -> str:
    when = f"{moment(e.at):%a %b %d %H:%M:%S} +0000 {moment(e.at):%Y}"
    venue = f"4bf58dd8d48988d1df94{e.kind:04}"
    return "\t".join([str(e.user), place(e.item), venue, "Café", "40.7198", "-74.0025", "-240", when])


def place(item: int) -> str:
    return f"49bbd6c0f964a520{item:08}"


def views(events: Sequence[Event]) -> str:
    """Diginetica: the day on which a session began, and the milliseconds since then."""
    began = {user: min(e.at for e in events if e.user == user) for user in {e.user for e in events}}
    return rows(
        lambda e: (
            f"{e.user};{'NA' if e.user % 3 else e.user};{e.item};{e.at - began[e.user]};"
            f"{moment(began[e.user]):%Y-%m-%d}"
        ),
        "sessionId;userId;itemId;timeframe;eventdate",
    )(events)


def sessions(events: Sequence[Event]) -> str:
    """Otto: a session on each line."""
    kinds = ("clicks", "carts", "orders")
    lines = []
    for user in dict.fromkeys(e.user for e in events):
        own = [{"aid": e.item, "ts": e.at, "type": kinds[e.kind]} for e in events if e.user == user]
        lines.append(json.dumps({"session": user, "events": own}))
    return "".join(f"{line}\n" for line in lines)


def transaction(e: Event) -> str:
    return f"{moment(e.at):%Y-%m-%d},{customer(e.user)},{e.item:010},0.050830508474576264,{e.kind or 2}"


def customer(user: int) -> str:
    return f"{user:064x}"


RETAIL = ("view", "addtocart", "transaction")

STAND_INS = {
    "ml-1m": StandIn("ml-1m/ratings.dat", rows(lambda e: f"{e.user}::{e.item}::4::{e.at // 1000}")),
    "ml-32m": StandIn(
        "ml-32m/ratings.csv",
        rows(lambda e: f"{e.user},{e.item},3.5,{e.at // 1000}", "userId,movieId,rating,timestamp", "\r\n"),
    ),
    "amazon-2014": StandIn(
        "ratings_Beauty.csv",
        rows(lambda e: f"{reviewer(e.user)},{asin(e.item)},5.0,{e.at // DAY * DAY // 1000}"),
        reviewer,
        asin,
        DAY,
    ),
    "amazon-2018": StandIn(
        "All_Beauty.csv",
        rows(lambda e: f"{asin(e.item)},{reviewer(e.user)},5.0,{e.at // DAY * DAY // 1000}"),
        reviewer,
        asin,
        DAY,
    ),
    "amazon-2018-json": StandIn("All_Beauty_5.json.gz", objects(review_2018), reviewer, asin, DAY),
    "amazon-2023": StandIn(
        "All_Beauty.jsonl.gz", objects(review_2023), lambda user: f"AE{user:026}", asin, unit=1
    ),
    "yelp": StandIn(
        "yelp_academic_dataset_review.json",
        objects(yelp_review),
        lambda user: f"u-_{user:019}",
        lambda item: f"b-_{item:019}",
    ),
    "steam": StandIn("steam_reviews.json.gz", rows(steam_review), player, unit=DAY),
    "gowalla": StandIn(
        "loc-gowalla_totalCheckins.txt.gz",
        rows(lambda e: f"{e.user}\t{iso(e.at)}\t30.2359091167\t-97.7951395833\t{e.item}"),
    ),
    "foursquare": StandIn("dataset_TSMC2014_NYC.txt", rows(check_in), item=place, encoding="latin-1"),
    "lastfm": StandIn(
        "userid-timestamp-artid-artname-traid-traname.tsv", rows(play), lambda user: f"user_{user:06}", artist
    ),
    "lastfm-tracks": StandIn(
        "userid-timestamp-artid-artname-traid-traname.tsv",
        rows(play),
        lambda user: f"user_{user:06}",
        lambda item: mbid(900 + item),
        counts=lambda e: e.whole,
    ),
    "yoochoose": StandIn(
        "yoochoose-clicks.dat",
        rows(
            lambda e: f"{e.user},{moment(e.at):%Y-%m-%dT%H:%M:%S}.{e.at % 1000:03}Z,{e.item},{'0S5'[e.kind]}"
        ),
        unit=1,
    ),
    "diginetica": StandIn("train-item-views.csv", views, unit=1),
    "otto": StandIn("otto-recsys-train.jsonl", sessions, unit=1),
    "taobao": StandIn(
        "UserBehavior.csv.zip",
        rows(lambda e: f"{e.user},{e.item},2520377,{('pv', 'cart', 'buy')[e.kind]},{e.at // 1000}"),
    ),
    "retailrocket": StandIn(
        "events.csv",
        rows(
            lambda e: f"{e.at},{e.user},{RETAIL[e.kind]},{e.item},{7 if e.kind == 2 else ''}",
            "timestamp,visitorid,event,itemid,transactionid",
        ),
        unit=1,
    ),
    "hm": StandIn(
        "transactions_train.csv",
        rows(transaction, "t_dat,customer_id,article_id,price,sales_channel_id"),
        customer,
        lambda item: f"{item:010}",
        DAY,
    ),
}


def recipe(name: str) -> str:
    found = re.search(rf"# \[{name}\]\n(.*?)# \[/{name}\]", RECIPES, re.DOTALL)
    assert found
    return found[1]


def expected(
    stand_in: StandIn, events: Sequence[Event], fewest_of_user: int, fewest_of_item: int = 5
) -> dict[str, list[str]]:
    """The histories, in plain Python."""
    kept = [event for event in events if stand_in.counts(event)]
    while True:
        users, items = Counter(e.user for e in kept), Counter(e.item for e in kept)
        fewer = [e for e in kept if users[e.user] >= fewest_of_user and items[e.item] >= fewest_of_item]
        if len(fewer) == len(kept):
            break
        kept = fewer
    histories: dict[str, list[str]] = {}
    for event in sorted(kept, key=lambda e: e.at // stand_in.unit):
        histories.setdefault(stand_in.user(event.user), []).append(stand_in.item(event.item))
    return histories


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Dataset]:
    """The datasets that `recblr train` reads.  It stops before it trains."""
    seen: list[Dataset] = []

    def instead(dataset: Dataset, *_: Any, **__: Any) -> None:
        seen.append(dataset)

    monkeypatch.setattr("recblr.cli.train.train_and_show", instead)
    monkeypatch.setattr("recblr.cli.train.evaluate_and_print", lambda *_: None)
    return seen


def check(name: str, dataset: Dataset, printed: str) -> None:
    """The dataset has the histories of the events, and the first lines count all of them."""
    stand_in, events = STAND_INS[name], invented()
    fewest = 3 if "--min-user-events 3" in recipe(name) else 5
    histories = expected(stand_in, events, fewest)
    assert as_ids(dataset) == histories
    kept, incomplete = sum(map(len, histories.values())), sum(not stand_in.counts(e) for e in events)
    first, second = printed.splitlines()[:2]
    assert first.startswith(f"read {len(events)} events, dropped {len(events) - kept} (")
    assert ("without a user, an item or a time" in first) == (incomplete > 0)
    if incomplete:
        assert f"({incomplete} without a user, an item or a time, " in first
    assert "; ordered by " in first
    items = {item for history in histories.values() for item in history}
    assert f": {len(histories)} users, {len(items)} items, {kept} interactions, " in second
    assert 30 < len(histories) < 60
    assert kept < len(events)


@pytest.mark.parametrize("name", STAND_INS)
def test_a_recipe_reads_every_event_in_the_order_of_time(
    name: str, tmp_path: Path, read: list[Dataset]
) -> None:
    STAND_INS[name].write(tmp_path, invented())
    (printed,) = type_in(tmp_path, recipe(name))
    (dataset,) = read
    check(name, dataset, printed)


@pytest.mark.parametrize("name", ["ml-1m", "gowalla", "otto"])
def test_a_recipe_trains_a_model(name: str, tmp_path: Path) -> None:
    STAND_INS[name].write(tmp_path, invented())
    (printed,) = type_in(tmp_path, recipe(name), {"train": ["--epochs", "1", *SMALL]})
    (run,) = (Run(path.parent) for path in tmp_path.glob("*/report.json"))
    check(name, run.dataset(), printed)
    assert run.model().num_items == run.dataset().num_items


PAGE = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["taobao", "retailrocket", "otto"])
def test_the_filter_of_a_recipe_keeps_the_purchases(name: str, tmp_path: Path, read: list[Dataset]) -> None:
    (command,) = re.findall(rf"`([^`\n]*{STAND_INS[name].file}[^`\n]* > [\w.]+)`", PAGE)
    program, wanted = re.findall(r"\b(?:awk|jq)\b", command)[0], command.split(" > ")[1]
    if shutil.which(program) is None or ("unzip" in command and shutil.which("unzip") is None):
        pytest.skip(f"{program} or unzip is not installed")
    STAND_INS[name].write(tmp_path, invented())
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    everything = {"train": ["--k-core", "0", "--min-user-events", "0"]}
    type_in(tmp_path, recipe(name).replace(STAND_INS[name].file, wanted), everything)
    bought = [event for event in invented() if event.kind == 2]
    assert as_ids(read[0]) == expected(STAND_INS[name], bought, 0, 0)


def test_the_page_has_every_recipe() -> None:
    assert re.findall(r"<!-- snippet: tests/docs/test_datasets.py ([\w-]+) -->", PAGE) == list(STAND_INS)
    assert DataConfig().k_core == 5
