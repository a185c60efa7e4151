"""The manager's database, SQLite and PostgreSQL alike."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import delete, text, update
from sqlalchemy.exc import SQLAlchemyError

from cloud_fallback.fleet import moments
from cloud_fallback.fleet.database import (
    audit,
    deployments,
    devices,
    enrolments,
    events,
    metadata,
    people,
    releases,
    tables,
)
from cloud_fallback.fleet.database.connection import Database, migrate, open_database
from cloud_fallback.fleet.database.events import Event
from cloud_fallback.fleet.database.overview import overview
from cloud_fallback.fleet.refusals import ConflictError, NotThereError
from cloud_fallback.fleet.views import DeploymentNew, DevicePatch, EnrolmentNew, ReleaseView
from edge_runtime.contract.errors import ConfigError, InputError, StorageError, UpdateError
from tests.simulators.manager_databases import KINDS, opened


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with opened(request.param, tmp_path) as found:
        yield found


def enrolled(name: str, n: int, **labels: str) -> devices.Enrolled:
    return devices.Enrolled(name, "store-pc", "1.0", "Europe/Berlin", f"{n:064x}", f"{n:x}", labels)


def release(version: str, counter: int) -> ReleaseView:
    return ReleaseView(
        kind="model", name="detector", version=version, counter=counter, sha256=f"{counter:064x}",
        size_bytes=10, target=f"model/detector/{counter}-{version}.zip",
        published_at="2026-01-01T00:00:00.000Z", published_by="me",
    )  # fmt: skip


def test_the_migrations_make_the_tables_that_the_code_knows(database: Database) -> None:
    assert migrate(database) == "0002"
    with database.begin() as tx:
        assert compare_metadata(MigrationContext.configure(tx), tables.metadata) == []


def test_a_newer_database_is_refused(database: Database) -> None:
    with database.begin() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match=r"revision 0002 or older, got 9999.*newer edge-runtime"):
        migrate(database)


def test_replicas_that_start_together_migrate_once(database: Database) -> None:
    with database.begin() as tx:
        for table in reversed(tables.metadata.sorted_tables):
            tx.execute(text(f"DROP TABLE {table.name}"))
        tx.execute(text("DROP TABLE alembic_version"))
    failed: list[BaseException] = []

    def start() -> None:
        try:
            migrate(database)
        except BaseException as error:  # noqa: BLE001 - shown below
            failed.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


@pytest.mark.parametrize("url", ["", "mysql://x/y", "sqlite://", "postgresql"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="sqlite:///FILE or postgresql"):
        open_database(url)


def test_a_database_that_is_not_there_is_told_without_its_password() -> None:
    with pytest.raises(StorageError, match="Check that it runs") as caught:
        open_database("postgresql://me:secret@127.0.0.1:1/fleet")
    assert "secret" not in str(caught.value)


def test_a_block_that_raises_writes_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError), database.begin() as tx:
        audit.write(tx, "me", "a", "b", "c", 1.0)
        raise RuntimeError
    with database.read() as tx:
        assert audit.listing(tx) == []


def test_reading_writes_nothing(database: Database) -> None:
    if database.dialect == "sqlite":
        pytest.skip("SQLite has no such transactions; it is rolled back")
    with pytest.raises(SQLAlchemyError), database.read() as tx:
        audit.write(tx, "me", "a", "b", "c", 1.0)


class TestAudit:
    def test_writers_at_once_make_one_chain(self, database: Database) -> None:
        def write(who: str) -> None:
            for n in range(15):
                with database.begin() as tx:
                    audit.write(tx, who, "device.change", f"d{n}", "x", 1e9 + n / 3)

        threads = [threading.Thread(target=write, args=(f"w{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with database.read() as tx:
            assert [each.n for each in audit.listing(tx, limit=100)] == list(range(1, 61))
            assert audit.verify(tx) is None
            assert [each.n for each in audit.newest(tx, limit=3)] == [60, 59, 58]
            assert [each.n for each in audit.newest(tx, before=3)] == [2, 1]

    @pytest.mark.parametrize("column", ["at_s", "who", "action", "subject", "detail", "hash"])
    def test_a_changed_line_is_found(self, database: Database, column: str) -> None:
        with database.begin() as tx:
            for n in range(5):
                audit.write(tx, "me", "a", "b", "c", float(n))
            new = 77.0 if column == "at_s" else "0" * 64
            tx.execute(update(tables.audit).where(tables.audit.c.n == 3).values({column: new}))
        with database.read() as tx:
            assert audit.verify(tx) == 3

    @pytest.mark.parametrize(("gone", "found"), [(1, 1), (3, 3), (5, 5)])
    def test_a_removed_line_is_found(self, database: Database, gone: int, found: int) -> None:
        with database.begin() as tx:
            for n in range(5):
                audit.write(tx, "me", "a", "b", "c", float(n))
            tx.execute(delete(tables.audit).where(tables.audit.c.n == gone))
        with database.read() as tx:
            assert audit.verify(tx) == found


class TestDevices:
    def test_enrolling_again_begins_anew_and_revokes_the_old_certificate(self, database: Database) -> None:
        with database.begin() as tx:
            devices.enrol(tx, enrolled("d1", 1, region="west"), 1.0, again=False)
            with pytest.raises(ConflictError, match="a name that no device has") as caught:
                devices.enrol(tx, enrolled("d1", 2), 2.0, again=False)
            assert caught.value.code == "device-exists"
            devices.enrol(tx, enrolled("d1", 2, size="big"), 2.0, again=True)
        with database.read() as tx:
            found = devices.must_find(tx, "d1")
            assert found.labels == {"region": "west", "size": "big"}
            assert (found.desired_seq, found.taken_seq) == (1, -1)
            assert devices.revoked_serials(tx) == [("1", 2.0)]
            assert devices.of_token(tx, f"{1:064x}") is None
            assert devices.of_token(tx, f"{2:064x}") == "d1"

    def test_a_revoked_device_is_out(self, database: Database) -> None:
        with database.begin() as tx:
            devices.enrol(tx, enrolled("d1", 1), 1.0, again=False)
            assert devices.revoke(tx, "d1", 5.0)
            assert not devices.revoke(tx, "d1", 6.0)
            assert not devices.revoke(tx, "nobody", 6.0)
        with database.read() as tx:
            assert devices.of_token(tx, f"{1:064x}") is None
            assert devices.listing(tx) == []
            assert [each.name for each in devices.listing(tx, revoked=True)] == ["d1"]
            assert devices.must_find(tx, "d1").revoked_at == moments.text(5.0)
            with pytest.raises(NotThereError):
                devices.must_find(tx, "nobody")

    def test_pages_and_selectors(self, database: Database) -> None:
        with database.begin() as tx:
            for n in range(30):
                region = "west" if n % 2 else "east"
                devices.enrol(tx, enrolled(f"d{n:02}", n, region=region), 1.0, again=False)
            devices.change(tx, "d03", DevicePatch(groups=("lab",), labels={"region": "north"}), 2.0)
            devices.renew(tx, "d04", "abc", 3.0)
        with database.read() as tx:
            west = devices.listing(tx, "region=west", limit=4)
            assert [each.name for each in west] == ["d01", "d05", "d07", "d09"]
            assert devices.listing(tx, "region=west", after="d09", limit=1)[0].name == "d11"
            assert devices.names(tx, "group=lab and label=region") == ["d03"]
            assert devices.names(tx, "device in (d01, d02) and profile=store-pc") == ["d01", "d02"]
            assert overview(tx).devices == 30
            with pytest.raises(ConfigError, match="column"):
                devices.listing(tx, "region=")

    def test_what_does_not_exist_is_refused(self, database: Database) -> None:
        with database.begin() as tx:
            with pytest.raises(ConfigError, match="time zone"):
                devices.enrol(tx, devices.Enrolled("d", "p", "1", "Mars/Base", "0", "1", {}), 1.0, again=True)
            with pytest.raises(NotThereError):
                devices.renew(tx, "nobody", "1", 1.0)
            assert not devices.change(tx, "nobody", DevicePatch(), 1.0)


class TestEnrolments:
    def test_a_token_works_once_and_for_one_key(self, database: Database) -> None:
        with database.begin() as tx:
            new = EnrolmentNew(labels={"region": "west"}, expires_s=100)
            assert enrolments.create(tx, "a" * 64, new, "me", 0.0) == 100.0
            first = enrolments.take(tx, "a" * 64, "d1", "k1", 1.0)
            assert (first.device, first.labels, first.named, first.again) == (
                "d1", {"region": "west"}, False, False,
            )  # fmt: skip
            assert enrolments.take(tx, "a" * 64, "d1", "k1", 2.0).again  # its answer was lost
            for device, key, now_s, code in (
                ("d1", "k2", 3.0, "token-used"),
                ("d2", "k1", 3.0, "token-used"),
                ("d1", "k1", 100.0, "token-expired"),
            ):
                with pytest.raises(enrolments.TokenError) as caught:
                    enrolments.take(tx, "a" * 64, device, key, now_s)
                assert caught.value.code == code
            with pytest.raises(enrolments.TokenError) as caught:
                enrolments.take(tx, "b" * 64, None, "k", 1.0)
            assert caught.value.code == "token-unknown"
            assert enrolments.prune(tx, 200.0) == 1

    def test_a_token_for_a_device_is_for_no_other(self, database: Database) -> None:
        with database.begin() as tx:
            enrolments.create(tx, "a" * 64, EnrolmentNew(device="d1"), "me", 0.0)
            with pytest.raises(enrolments.TokenError):
                enrolments.take(tx, "a" * 64, "d2", "k", 1.0)
            taken = enrolments.take(tx, "a" * 64, None, "k", 1.0)
            assert (taken.device, taken.named) == ("d1", True)


class TestReleases:
    def test_counters_grow_over_releases_and_reverts(self, database: Database) -> None:
        with database.begin() as tx:
            assert releases.next_counter(tx, "model", "detector") == 1
            one = releases.publish(tx, release("1", 1))
            assert releases.publish(tx, release("1", 1)) == one
            releases.keep_revert(
                tx, "model", "detector", of=one.target, target="reverts/x/2", counter=2, now_s=1.0
            )
            with pytest.raises(ConflictError, match="counter of at least 3"):
                releases.publish(tx, release("2", 2))
            releases.publish(tx, release("2", 3))
            with pytest.raises(ConflictError, match="one published at"):
                releases.publish(tx, release("2", 4))
            assert releases.revert_target(tx, "model", "detector", one.target, 1) == ("reverts/x/2", 2)
            assert releases.revert_target(tx, "model", "detector", one.target, 2) is None
            assert [each.version for each in releases.listing(tx)] == ["2", "1"]
            after = releases.listing(tx, "detector", after=releases.listing(tx)[0].target)
            assert [each.version for each in after] == ["1"]


class TestDeployments:
    def test_only_what_is_published_and_a_free_id(self, database: Database) -> None:
        with database.begin() as tx:
            with pytest.raises(NotThereError, match="Publish it first"):
                deployments.create(tx, DeploymentNew(name="detector", version="1"), "d", "me", 1.0)
            releases.publish(tx, release("1", 1))
            new = DeploymentNew(name="detector", version="1", selector="a=b and all")
            view = deployments.create(tx, new, "d", "me", 1.0)
            assert (view.deployment.sha256, view.deployment.counter) == (f"{1:064x}", 1)
            assert (view.phase, view.wave, view.reached) == ("running", -1, 0)
            with pytest.raises(ConflictError):
                deployments.create(tx, new, "d", "me", 1.0)
            for bad in ("d--back", "x" * 49):
                with pytest.raises(InputError, match="at most 48"):
                    deployments.create(tx, new, bad, "me", 1.0)
            with pytest.raises(UpdateError, match="phase approval"):
                deployments.ask(tx, "d", "approve", reason="", who="me", now_s=1.0)
            n = deployments.ask(tx, "d", "pause", reason="", who="me", now_s=1.0)
            assert not deployments.became(tx, n).done
            deployments.create(tx, new, "e", "me", 2.0)
            assert [each.deployment.id for each in deployments.listing(tx)] == ["e", "d"]
            assert [each.deployment.id for each in deployments.listing(tx, after="e")] == ["d"]
            with pytest.raises(NotThereError):
                deployments.listing(tx, after="nothing")


def test_events_of_a_device_are_written_once(database: Database) -> None:
    mine = Event(1.0, "error", "no-disk", "full", "d1", None, "e1")
    with database.begin() as tx:
        events.write(tx, [mine, mine, Event(2.0, "info", "x", "y")])
        events.write(tx, [mine])
        assert [each.code for each in events.listing(tx)] == ["no-disk", "x"]
        assert [each.code for each in events.newest(tx, device="d1")] == ["no-disk"]
        assert events.listing(tx, deployment="d") == []
        assert events.prune(tx, 1.5) == 1
        assert events.last(tx) == events.listing(tx)[0].n


def test_tokens(database: Database) -> None:
    with database.begin() as tx:
        view = people.create(tx, "ci", "operator", "a" * 64, by="me", now_s=1.0, expires_s=100.0)
        found = people.token(tx, "a" * 64, 50.0)
        assert found == view and people.is_stale(view, 50.0)
        people.use(tx, view.id, 50.0)
        used = people.token(tx, "a" * 64, 51.0)
        assert used is not None and not people.is_stale(used, 60.0)
        assert people.token(tx, "a" * 64, 100.0) is None
        assert people.token(tx, "b" * 64, 1.0) is None
        revoked = people.revoke(tx, view.id, 60.0)
        assert revoked is not None and revoked.revoked_at == moments.text(60.0)
        assert people.token(tx, "a" * 64, 50.0) is None
        assert people.revoke(tx, 999, 1.0) is None
        assert len(people.listing(tx)) == 1


def test_metadata_is_changed_by_one_at_a_time(database: Database) -> None:
    store = metadata.StoredMetadata(database, lambda: 1.0)
    assert store.put({"timestamp.json": b"1", "1.root.json": b"r"}, None)
    assert not store.put({"timestamp.json": b"2"}, None)
    assert not store.put({"timestamp.json": b"2", "x": b"x"}, b"0")
    assert store.get("x") is None
    assert store.put({"timestamp.json": b"2", "x": b"x"}, b"1")
    assert (store.get("timestamp.json"), store.get("x"), store.get("1.root.json")) == (b"2", b"x", b"r")


def test_moments() -> None:
    assert moments.text(1_767_225_600.25) == "2026-01-01T00:00:00.250Z"
    assert moments.seconds("2026-01-01T00:00:00.250Z") == 1_767_225_600.25
    assert moments.maybe(None) is None
    for bad in ("yesterday", "2026-01-01T00:00:00"):
        with pytest.raises(InputError, match="time"):
            moments.seconds(bad)
