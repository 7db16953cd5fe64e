"""`Recommender`: train on a frame, recommend in frames, save and load."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from recblr.config.run import DataConfig
from recblr.data import Dataset
from recblr.errors import InputError
from recblr.evaluation import write_report
from recblr.recommender import saved
from recblr.recommender.answers import Backend, Best, EngineAnswers, answers_of
from recblr.recommender.frames import Kind, check_kind, collected, frame_of, id_of, is_frame, kind_of
from recblr.recommender.notebook import ShownReport, shown_training
from recblr.recommender.options import call_of_fit, data_options, options_of, training_config
from recblr.recommender.reading import Data, joined, later, read
from recblr.recommender.requests import Requests
from recblr.recommender.saved import TemporaryFolder
from recblr.run.folder import Run
from recblr.run.model_content import ModelContent, servable, write_model_file
from recblr.serving.filters import check_diversity
from recblr.system.machine import keep_freed_memory
from recblr.training import Listener, train
from recblr.training.evaluate import evaluate_run
from recblr.training.progress import ListenerGroup

Unknown = Literal["raise", "skip", "popular"]


class Recommender:
    """Learns from a log of who did what, and says what comes next.

    Example::

        recommender = Recommender().fit(log, user="uid", item="sku", time="ts")
        best = recommender.recommend(["ada", "bob"], k=5)  # a frame: user, item, score, rank
        recommender.save("shop")

    Frames are those of pandas or polars.  Answers are frames of the kind that `fit` was given.  Ids are
    integers or texts, and come back in the type that they came in; 7 and "7" are the same id.  From files,
    ids come back as texts, and frames are those of polars.

    Times are seconds since 1970 in UTC, dates, datetimes, or texts of dates.

    The answers are those of the C++ engine (docs/engine.md), and of PyTorch for a model that the engine
    cannot serve.  Both give the same scores, within 1e-5 of the largest one.

    Several threads may ask at once.  `fit` and `fit_more` must not run while others ask.  A call that raises
    has changed nothing; the warning after Ctrl-C comes when `fit` has learned.

    Args:
        frames: the kind of all frames in answers, "pandas" or "polars"; None for the kind of the data.
        backend: "engine" or "torch" answers; with "auto", the engine if it can.
        threads: how many threads of the engine work on one call; None for all processors of the process.

    The options of the training go to `fit`.
    """

    def __init__(
        self,
        *,
        frames: Kind | None = None,
        backend: Backend = "auto",
        threads: int | None = None,
        **options: Any,
    ) -> None:
        for name in options:
            raise InputError(f"Recommender() has no option {name!r}", f"give {name}= to fit")
        check_kind(frames)
        if threads is not None and (type(threads) is not int or not 1 <= threads <= 1024):
            raise InputError(f"threads is {threads!r}", "give a whole number from 1 to 1024")
        if backend not in get_args(Backend):
            raise InputError(f"backend is {backend!r}", f"give one of {', '.join(get_args(Backend))}")
        self._frames, self._backend, self._threads = frames, backend, threads
        self._run: Run | None = None
        self._requests: Requests | None = None
        self._temporary: TemporaryFolder | None = None

    # --- learning -------------------------------------------------------------------------------

    def fit(
        self,
        data: Any,
        *,
        user: str | None = None,
        item: str | None = None,
        time: str | None = None,
        rating: str | None = None,
        valid: float | None = None,
        out: str | os.PathLike[str] | None = None,
        resume: bool = False,
        progress: bool | None = None,
        listener: Listener | None = None,
        **options: Any,
    ) -> Self:
        """Train on a log of events.  The same data and options as in `recblr train` make the same bits.

        By default, users and items with fewer than 5 events are dropped, and a warning counts the events.

        Ctrl-C ends the training.  After the first epoch, the recommender takes the best epoch so far, and a
        warning names it.  With `out`, ``resume=True`` continues the training.

        So that steps are faster, the process keeps up to 1 GiB of freed memory from now on (glibc only).

        Args:
            data: a frame of pandas or polars with an event in each row, the path of a file or several, or a
                :class:`recblr.Dataset`.
            user, item, time: the names of the columns.  By default user_id, item_id and timestamp, or another
                usual spelling.  Without a time, the rows are in the order of time.
            rating: the name of the column of ratings; it goes with ``min_rating=``.
            valid: the share of the users that validate, which chooses the best epoch; all by default.  With
                ``split="time"``, the share of the events.
            out: a new folder for the run, with its log and checkpoints.  By default a temporary one, which
                goes when the recommender does.
            resume: continue the run in `out`, if there is one.
            progress: whether to show the progress.  By default in a notebook and in a terminal.
            listener: called at every step and epoch.
            options: those of `recblr train` (docs/options.md), with _ for -, such as ``epochs=10``,
                ``d_model=128``, ``k_core=0`` or ``device="cuda"``.  What the model knows of time is
                ``time_use="none"``, ``"past"`` or ``"request"``.

        Returns:
            The recommender itself.

        Raises:
            InputError: the data lack a column or an event, an option is unknown or out of range, or `out`
                holds a run already.
        """
        found = options_of(options)
        reading = replace(
            DataConfig(user_column=user, item_column=item, time_column=time, rating_column=rating),
            **data_options(found),
        )
        config = training_config(found | {"valid-share": valid})
        if resume and out is None:
            raise InputError("resume=True continues the run in a folder", "give the folder with out=")
        temporary = None if out is not None else TemporaryFolder()
        run = Run(temporary.path / "run" if temporary is not None else Path(os.fspath(out or "")))
        keep_freed_memory()
        source = self._in_frames(read(data, reading))
        rare = source.rare_events
        if rare and not {"k_core", "min_user_events", "min_item_events"} & set(options):
            warnings.warn(
                f"fit drops {rare:,} events of users or items with fewer than {reading.k_core} events;"
                f" k_core=0 keeps them, and k_core={reading.k_core} drops them without this warning",
                UserWarning,
                stacklevel=2,
            )
        columns = {"user": user, "item": item, "time": time, "rating": rating, "valid": valid}
        given = {name: value for name, value in columns.items() if value is not None}
        began = _Began(run, None if temporary is not None else source)
        stopped = ""
        with shown_training(progress) as shown:
            try:
                train(
                    source.dataset,
                    run,
                    config,
                    data=source.config,
                    resume=resume,
                    facts={"command": call_of_fit({**given, **options})},
                    listener=ListenerGroup([began, shown] + ([] if listener is None else [listener])),
                )
            except KeyboardInterrupt:
                if not began.epoch or not run.model_file.exists():
                    raise
                stopped = f"in epoch {began.epoch}"
        content = run.content_and_dataset()[0]
        if temporary is None:
            saved.describe_in_run(run, source)
        else:  # a run in a temporary folder cannot be resumed
            shutil.rmtree(run.checkpoints, ignore_errors=True)
        self._take(run, source, content, temporary)
        requests = self._now()
        more = "; resume=True continues the training" if stopped and temporary is None else ""
        try:
            requests.answers.take_in(requests.people(source.dataset.user_ids))
        except KeyboardInterrupt:  # what is not taken in now is taken in when it is asked for
            stopped = stopped or "after the training"
        if stopped:
            warnings.warn(
                f"fit was interrupted {stopped}, and the recommender has the best model so far,"
                f" that of epoch {content.epoch}{more}",
                UserWarning,
                stacklevel=2,
            )
        return self

    def fit_more(
        self,
        data: Any,
        *,
        user: str | None = None,
        item: str | None = None,
        time: str | None = None,
        rating: str | None = None,
        **options: Any,
    ) -> Self:
        """Take in new events.  The weights stay, so this takes seconds, and no rare user or item is dropped.

        Later answers know the events.  A new user gets recommendations.  A new item gets the mean of the
        vectors of its neighbours: the items right before and after it in histories.  It can be recommended at
        once.  After many new items or months, `fit` again on all events.

        An event that the recommender has already (the same user, item and time) is left out, and so are new
        items without any neighbour, and what ``min_rating`` or ``drop_incomplete`` drops.  A warning counts
        them.  Without times, new events come after all others
        of their user, so give only new ones.

        Args:
            data, user, item, time, rating: as in :meth:`fit`; by default the columns of `fit`.
            options: how the data are read, as in :meth:`fit`; by default as there.

        Raises:
            InputError: nothing is fitted yet, or the data cannot be read, have no times where the others
                have, or have none and seem to be the whole log again.
        """
        requests = self._now()
        known, answers = requests.data, requests.answers
        training = ("valid", "out", "resume", "progress", "listener")
        reading: dict[str, Any] = data_options(
            options_of({name: value for name, value in options.items() if name not in training})
        )
        other = next((name for name in options if name not in reading), None)
        if other is not None:
            raise InputError(f"fit_more trains no weights, so {other}= has no effect", "leave it out")
        columns = {"user_column": user, "item_column": item, "time_column": time, "rating_column": rating}
        reading |= {name: value for name, value in columns.items() if value is not None}
        source = read(data, replace(later(known.config, data), **reading))
        new = source.dataset
        for ids, names in ((known.users, new.user_ids), (known.items, new.item_ids)):
            ids.values(names)  # raises before anything changes, if they have another type
        more, content, left_out = joined(known, answers.content, new)
        left_out |= source.dropped
        if any(left_out.values()):  # before anything changes, because a warning may be made an error
            counts = " and ".join(f"{count:,} {which}" for which, count in left_out.items() if count)
            users = more.dataset.num_users - known.dataset.num_users
            items = more.dataset.num_items - known.dataset.num_items
            warnings.warn(
                f"fit_more left out events: {counts}; {users:,} users and {items:,} items are new",
                UserWarning,
                stacklevel=2,
            )
        people = requests.people([name for name in new.user_ids if name in requests.user_numbers])
        grown, before = Requests(more, answers), answers.content
        try:
            answers.grow(self.run.model_file, content, people)
            self._requests = grown
        except BaseException:  # half grown, after Ctrl-C
            old = answers_of(self.run.model_file, before, self._backend, self._threads)
            self._requests = Requests(known, old)
            raise
        return self

    def evaluate(self, split: str = "test", *, device: str = "auto") -> dict[str, Any]:
        """Rank each user's held-out item among all items, and compare with two simple models.

        The model and the events are those of `fit`, without those of `fit_more`.  The report is also written
        into the folder of the run, as `recblr evaluate` does.

        Args:
            split: "test" or "valid": which held-out items.
            device: of the model: auto, cpu, cuda or cuda:N.

        Returns:
            The report (docs/run-folder.md), with figures such as
            ``report["ours"][split]["masked"]["ndcg@10"]["mean"]``.  A notebook shows it as a table, and
            `print` prints it.
        """
        run = self.run
        if split not in ("test", "valid"):
            raise InputError(f"there is no split {split!r} to evaluate", "give test or valid")
        report = evaluate_run(run, device=device)
        with suppress(InputError):  # another person's folder may be read-only
            write_report(report, run.report_file)
        return ShownReport({**report, "ours": {split: report["ours"][split]}})

    # --- recommending ---------------------------------------------------------------------------

    def recommend(
        self,
        users: Any = None,
        k: int = 10,
        *,
        filter_viewed: bool = True,
        items: Any = None,
        exclude: Any = None,
        items_for: Mapping[Any, Any] | None = None,
        exclude_for: Mapping[Any, Any] | None = None,
        popularity_cap: float | None = None,
        diversity: float = 0.0,
        times: Any = None,
        unknown: Unknown = "raise",
    ) -> Any:
        """The k best items for each user.

        All filters are exact: the answer is the best k of the items that are left, and shorter only if fewer
        than k are left.  A list of the items to choose among may hold only items of the model.  Of a frame or
        a column, such as ``catalogue.filter(...)``, other items are ignored, and so are all unknown items
        that are to be left out.

        Args:
            users: a list, an array or a column of ids, or a frame with a column of users; None for all.  A
                frame may have the events of users: each user counts once, unless `times` has one for each
                row.
            k: 1 or more.
            filter_viewed: leave out the items that the user has.
            items: the only items that may be recommended.
            exclude: items to leave out.
            items_for, exclude_for: the same for single users, {user: items}, beside the filters for all.  The
                users must be in the data or in `users`.
            popularity_cap: leave out items that more than this share of all users have, such as 0.05.
            diversity: from 0 to below 1.  Above 0, the items are chosen among the best 10 k by maximal
                marginal relevance: each next one has the largest
                ``(1 - diversity) * relevance - diversity * likeness``, where these are its probability over
                that of the best item, and its largest cosine with an item that is already chosen; a negative
                cosine counts as 0.
            times: of the requests, for a model of ``time_use="request"``: one for all, one for each user, or
                {user: time}.  By default right after the last event of each user.
            unknown: what to do with users who are not in the data: "raise" an error, "skip" them with a
                warning that counts them, or give them the most "popular" items, whose score is the share of
                users who have the item; `diversity` does not change this list.

        Returns:
            A frame with the columns user, item, score (float32) and rank (from 1), in the order of `users`,
            the best item of each first.

        Raises:
            InputError: nothing is fitted yet, a user or an item is unknown, an argument is out of range, no
                item may be recommended, the model does not use `times`, or a request comes before the user's
                last event.
        """
        requests = self._now()
        _check_choice("unknown", unknown, get_args(Unknown))
        check_diversity(diversity)
        names = requests.names(users, times)
        own = requests.user_numbers.keys() | names if items_for or exclude_for else ()
        filters = requests.filters(filter_viewed, items, exclude, items_for, exclude_for, popularity_cap, own)
        k, moments = requests.count(k), requests.moments(times, names)
        known = np.array([name in requests.user_numbers for name in names], np.bool_)
        if unknown == "raise":
            requests.known(names)
        people = requests.people(
            [name for name, there in zip(names, known, strict=True) if there],
            None if moments is None else moments[known],
        )
        found = iter(requests.answers.best(people, k, filters, diversity))
        strangers = {name for name, there in zip(names, known, strict=True) if not there}
        popular: dict[str, Best] = {name: [] for name in strangers}
        if unknown == "popular" and strangers:
            of_all = requests.popular(k, filters)
            popular = {
                n: requests.popular(k, filters, n) if filters.has_own(n) else of_all for n in strangers
            }
        lists = [popular[name] if name in strangers else next(found) for name in names]
        if unknown == "skip" and strangers:
            warnings.warn(
                f"{len(strangers):,} of the {len(set(names)):,} users are not in the data, and were skipped",
                UserWarning,
                stacklevel=2,
            )
        return requests.data.lists(names, lists, requests.data.users)

    def recommend_histories(
        self,
        histories: Any,
        k: int = 10,
        *,
        times: Any = None,
        request_times: Any = None,
        filter_viewed: bool = True,
        items: Any = None,
        exclude: Any = None,
        items_for: Mapping[Any, Any] | None = None,
        exclude_for: Mapping[Any, Any] | None = None,
        popularity_cap: float | None = None,
        diversity: float = 0.0,
        unknown: Literal["raise", "skip"] = "raise",
    ) -> Any:
        """The k best items after histories of nobody whom the recommender knows, such as guests.

        Args:
            histories: {name: items}, or a list of lists of items, the oldest first; or a frame of events, as
                in :meth:`fit`.  Nothing of them is kept.  A warning counts the events of a frame that
                ``min_rating`` or ``drop_incomplete`` of `fit` drops; who loses all gets no items.
            times: the times of the events, in the form of `histories`: {name: times}, or a list of lists.  A
                model that knows time needs them.  A frame has them in its column.
            request_times: of the requests, as `times` of :meth:`recommend`.
            unknown: what to do with items that the model does not know: "raise" an error, or "skip" them with
                a warning that counts them.

        The other arguments, and the errors, are those of :meth:`recommend`.

        Returns:
            A frame as that of :meth:`recommend`.  Its users are the names; without names, the places in the
            list, from 0.
        """
        requests = self._now()
        _check_choice("unknown", unknown, ("raise", "skip"))
        check_diversity(diversity)
        names, people, ids = requests.guests(histories, times, unknown, request_times)
        filters = requests.filters(
            filter_viewed, items, exclude, items_for, exclude_for, popularity_cap, set(names)
        )
        best = requests.answers.best(people, requests.count(k), filters, diversity)
        found = dict(zip(people.names, best, strict=True))  # others had unknown items only
        return requests.data.lists(names, [found.get(name, []) for name in names], ids)

    def similar_items(self, items: Any, k: int = 10) -> Any:
        """The k other items whose vectors have the largest cosine with that of each item.

        Returns a frame with the columns item, similar, score (the cosine, float32) and rank (from 1).  Each
        item of a frame or a column counts once.  Raises InputError for an unknown item, also of a frame.
        """
        requests = self._now()
        names, k = requests.items(items, "the items"), requests.count(k)
        if kind_of(items) is not None:  # such as a log
            names = list(dict.fromkeys(names))
        lists = [requests.answers.similar(name, k) for name in names]
        return requests.data.lists(names, lists, requests.data.items, ("item", "similar"))

    def explain(self, user: Any, item: Any, *, time: Any = None) -> Any:
        """How much each of the user's newest 100 events changes the score of an item, exactly.

        Returns a frame with the columns position (of the event in the user's history, from 0), item and
        change (the score less the score without this event, float32), the largest change first.
        Raises InputError as :meth:`recommend`.
        """
        requests = self._now()
        names = requests.known([id_of(user, "the user", requests.user_numbers)])
        person = requests.people(names, requests.moments(time, names))
        (name,) = requests.items([item], "the item")
        found = requests.answers.explain(person, name)
        return frame_of(
            {
                "position": np.array([position for position, _, _ in found], np.int64),
                "item": requests.data.item_column([name for _, name, _ in found]),
                "change": np.array([change for _, _, change in found], np.float32),
            },
            requests.data.frames,
        )

    def score(self, users: Any, items: Any = None, *, times: Any = None) -> Any:
        """The scores of items for users, as :meth:`recommend` compares them, also of items that they have.

        Args:
            users: as in :meth:`recommend`; or a frame with columns of users and items, whose rows are scored.
            items: a list of ids, or a frame with a column of items.  Each is scored for each user, and none
                may be unknown.
            times: of the requests, one for all or one for each user or row.

        Returns:
            A frame with the columns user, item and score (float32), in the order of users, then of items.
        """
        requests, users = self._now(), collected(users)
        names = list(requests.known(requests.names(users, () if items is None else times)))
        moments = requests.moments(times, names)
        if items is not None:
            wanted = requests.items(items, "the items")
            scores = requests.answers.scores(requests.people(names, moments), wanted).reshape(-1)
            names, wanted = [name for name in names for _ in wanted], wanted * len(names)
        elif is_frame(users):
            wanted = requests.items(users, "the items")
            scores = requests.scores_of_rows(names, wanted, moments)
        else:
            raise InputError("there are no items to score", "give items=, or a frame of users and items")
        return frame_of(
            {
                "user": requests.data.users.column_of(names, requests.data.frames),
                "item": requests.data.item_column(wanted),
                "score": scores,
            },
            requests.data.frames,
        )

    # --- vectors and ids ------------------------------------------------------------------------

    def item_vectors(self, items: Any = None) -> NDArray[np.float32]:
        """The vectors ``(N, D)`` float32 of items, one for each that is given.

        By default of all, in the order of `item_ids`.  Raises InputError for an unknown item, also of a
        frame.
        """
        requests = self._now()
        table = np.asarray(requests.answers.content.table, np.float32)
        if items is None:
            return table.copy()
        return table[[requests.answers.item_numbers[name] for name in requests.items(items, "the items")]]

    def user_vectors(self, users: Any = None, *, times: Any = None) -> NDArray[np.float32]:
        """The vectors ``(N, D)`` float32 of users, by default of all, in the order of `user_ids`.

        The score of an item is the product of both vectors, plus the bias of repeats if the user has the
        item.  times: of the requests, as in :meth:`recommend`.
        """
        requests = self._now()
        names = requests.known(requests.names(users))
        return requests.answers.vectors(requests.people(names, requests.moments(times, names)))

    @property
    def user_ids(self) -> list[Any]:
        """The ids of all users, in their own type."""
        data = self._now().data
        return data.users.values(data.dataset.user_ids)

    @property
    def item_ids(self) -> list[Any]:
        """The ids of all items that can be recommended or be in histories, in their own type."""
        data = self._now().data
        return data.items.values(data.dataset.item_ids)

    @property
    def dataset(self) -> Dataset:
        """All events, with those of `fit_more`."""
        return self._now().data.dataset

    @property
    def run(self) -> Run:
        """The run of the training: its folder, its log and its model file."""
        self._now()
        assert self._run is not None
        return self._run

    # --- keeping --------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recommender into a new folder: the model, all events and the report if there is one.

        The folder is a run too, so `recblr evaluate` and `recblr recommend` take it.  They see the run as it
        was trained, without the events of `fit_more`.
        Raises InputError if `path` exists, or cannot be written.
        """
        requests = self._now()
        saved.save(self.run, requests.data, requests.answers.content, Path(os.fspath(path)))

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write the one file that a server needs, for :meth:`recblr.Engine.load`; an older one is replaced.

        It holds the model with the new items of `fit_more`, and no events.
        Raises InputError if the path does not end in .safetensors, or cannot be written, or the model is a
        baseline, which no engine serves.
        """
        content, file = self._now().answers.content, Path(os.fspath(path))
        if file.suffix != ".safetensors":
            raise InputError(f"{file} does not look like a model file", "end it in .safetensors")
        write_model_file(file, servable(self.run.model_file, content))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        frames: Kind | None = None,
        backend: Backend = "auto",
        threads: int | None = None,
    ) -> Self:
        """The recommender in a folder that :meth:`save` or `recblr train` wrote.

        frames, backend, threads: as in the class.

        Raises InputError if the folder is missing, damaged, or of a later recblr.
        """
        recommender = cls(frames=frames, backend=backend, threads=threads)
        recommender._take(*saved.load(Path(os.fspath(path))), None)
        return recommender

    def describe(self) -> str:
        """A short text with one fact in each line: the data, the model, and what answers."""
        if self._requests is None:
            return "not fitted yet"
        data, answers = self._requests.data, self._requests.answers
        content, config = answers.content, answers.content.config
        use = {"none": "the order of events", "past": "the times of events"}
        by = "the engine" if isinstance(answers, EngineAnswers) else "torch"
        lines = [
            data.dataset.describe(),
            *([f"fit           {data.said}"] if data.said else []),
            f"model         {config.model}, width {config.d_model}, {config.num_layers} layers",
            f"it knows      {use.get(config.time_use, 'the times of events and of the request')}",
            f"answers       by {by}, in frames of {data.frames}",
        ]
        if content.metrics is not None and "ndcg@10" in content.metrics.get("masked", {}):
            figure = content.metrics["masked"]["ndcg@10"]
            lines.append(f"validation    NDCG@10 {figure:.4f} among unseen items, epoch {content.epoch}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        if self._requests is None:
            return "<recblr.Recommender, not fitted yet>"
        dataset, config = self._requests.data.dataset, self._requests.answers.content.config
        return (
            f"<recblr.Recommender of {dataset.num_users:,} users and {dataset.num_items:,} items,"
            f" {config.model}>"
        )

    def __reduce__(self) -> Any:
        content = None
        if self._requests is not None:
            content = saved.archive(self.run, self._requests.data, self._requests.answers.content)
        return _unpickled, (type(self), content, self._frames, self._backend, self._threads)

    # --- inside ---------------------------------------------------------------------------------

    def _take(self, run: Run, data: Data, content: ModelContent, temporary: TemporaryFolder | None) -> None:
        """Become what was fitted or read.  All that may fail comes first."""
        answers = answers_of(run.model_file, content, self._backend, self._threads)
        self._requests = Requests(self._in_frames(data), answers)
        self._run, self._temporary = run, temporary

    def _in_frames(self, data: Data) -> Data:
        return replace(data, frames=self._frames or data.frames)

    def _now(self) -> Requests:
        if self._requests is None:
            raise InputError(
                "the recommender has learned nothing yet", "call fit(data), or Recommender.load(path)"
            )
        return self._requests


class _Began(Listener):
    """Knows the epoch that is being trained, 0 before the first.

    Writes what `load` must know of the data into the folder of a run that stays: the training may be stopped.
    """

    def __init__(self, run: Run, data: Data | None) -> None:
        self.run, self.data, self.epoch = run, data, 0

    def start_epoch(self, epoch: int, epochs: int, targets: int, users: int, done: int) -> None:
        if self.data is not None and not self.epoch:
            saved.describe_in_run(self.run, self.data)
        self.epoch = epoch


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name} is {value!r}", f"give one of {', '.join(choices)}")


def _unpickled(
    cls: type[Recommender],
    content: bytes | None,
    frames: Kind | None,
    backend: Backend,
    threads: int | None,
) -> Recommender:
    """The recommender that `__reduce__` describes."""
    recommender = cls(frames=frames, backend=backend, threads=threads)
    if content is not None:
        temporary = TemporaryFolder()
        recommender._take(*saved.load(saved.unpacked(content, temporary.path)), temporary)
    return recommender
