#!/usr/bin/env python3
"""A region in one file, written against the published contract of control and nothing else.

It keeps organizations in SQLite, gets their ids and slugs from control, follows control's feed and does the renames
that it asks for. It may be killed at any moment, and goes on at its next start. docs/write-a-region.md explains each
step.

    region.py --stubs GEN --control 127.0.0.1:50051 --name py --database py.db create 'Acme Inc' acme
    region.py --stubs GEN --control 127.0.0.1:50051 --name py --database py.db run
    region.py --stubs GEN --control 127.0.0.1:50051 --name py --database py.db list

GEN is where the generated code is:
python -m grpc_tools.protoc -I proto --python_out=GEN --grpc_python_out=GEN proto/causeway/*/v1/*.proto
"""

import argparse
import contextlib
import itertools
import json
import pathlib
import random
import signal
import sqlite3
import sys
import threading
import time
import uuid

import grpc
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

_early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
_early.add_argument("--stubs", default=".")
sys.path.insert(0, _early.parse_known_args()[0].stubs)

try:
    from causeway.control.v1 import directory_service_pb2, directory_service_pb2_grpc
    from causeway.control.v1 import region_service_pb2, region_service_pb2_grpc
    from causeway.control.v1 import slug_reservation_service_pb2 as slugs, slug_reservation_service_pb2_grpc
    from causeway.relocation.v1 import error_pb2, relocation_pb2, version_service_pb2, version_service_pb2_grpc
except ModuleNotFoundError as missing:
    sys.exit(f"{missing}: --stubs is to name the directory of the generated code, which .ci/install-grpcio makes")

CONTRACT_REVISION = 1  # The revision of the contract that this file was written for.
MODEL = "sentry.organization"  # The name under which control leases ids of organizations.
CALL = 10  # Seconds that one call may take. After that it has failed, and is made again.
SILENCE = 20  # Seconds without a message after which control counts as dead. It sends one every 5 s.
LONGEST_PAUSE = 15  # Seconds between two attempts, at most.
MOST_RANGES = 3_000  # Ranges of ids that one registration may name.
ACTIVE, HIDDEN = relocation_pb2.ORGANIZATION_STATUS_ACTIVE, relocation_pb2.ORGANIZATION_STATUS_HIDDEN
PRIMARY, ALIAS = slugs.RESERVATION_TYPE_PRIMARY, slugs.RESERVATION_TYPE_VANITY_ALIAS
TEMPORARY = slugs.RESERVATION_TYPE_TEMPORARY_RENAME_ALIAS

SCHEMA = """
-- One row: who this is, and how far the feed has been followed. Version 0: nothing is known, a snapshot is wanted.
CREATE TABLE IF NOT EXISTS region (
  name TEXT NOT NULL, instance_id TEXT NOT NULL, version INTEGER NOT NULL DEFAULT 0,
  snapshots INTEGER NOT NULL DEFAULT 0);
-- The product's own table. The status is a number of the enum OrganizationStatus.
CREATE TABLE IF NOT EXISTS organization (
  id INTEGER PRIMARY KEY, slug TEXT UNIQUE, name TEXT NOT NULL, status INTEGER NOT NULL);
-- Organizations that are being made. The ids of both operations are stored before control is asked for anything.
CREATE TABLE IF NOT EXISTS creation (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, wanted_slug TEXT NOT NULL, step TEXT NOT NULL, lease_operation TEXT NOT NULL,
  slug_operation TEXT NOT NULL, organization_id INTEGER, taken_here INTEGER NOT NULL DEFAULT 0);
-- What the feed has said: whose each slug is.
CREATE TABLE IF NOT EXISTS replica (
  slug TEXT PRIMARY KEY, organization_id INTEGER NOT NULL, type INTEGER NOT NULL, operation_id TEXT NOT NULL,
  wanted INTEGER NOT NULL, snapshot INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS replica_organization ON replica (organization_id);
-- Renames that are decided, and that control has yet to hear of. Without a reason the organization has the new slug.
CREATE TABLE IF NOT EXISTS answer (
  operation_id TEXT PRIMARY KEY, organization_id INTEGER NOT NULL, slug TEXT NOT NULL, previous_slug TEXT,
  reason INTEGER, message TEXT);
"""


def say(event, **fields):
    """Prints one thing that happened as one line of JSON."""
    print(json.dumps({"event": event, **fields}), flush=True)


def pause(attempt, at_least=0.0):
    """Waits longer after each failed attempt, and not exactly as long as others that failed at the same time."""
    doubled = min(0.1 * 2 ** min(attempt, 20), LONGEST_PAUSE)
    time.sleep(max(doubled, at_least) * random.uniform(1, 1.25))


class Failure(Exception):
    """A call that failed: the reason, if control gave one, and whether the same call may succeed later."""

    TRANSPORT = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN"}

    def __init__(self, error):
        super().__init__(error.details() or error.code().name)
        self.what, self.retry_after = error.code().name, None
        # Without a word of control itself, a connection has failed.
        self.may_retry = self.what in self.TRANSPORT
        details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        for detail in status_pb2.Status.FromString(details).details:
            if detail.Unpack(info) and info.domain == "causeway":
                self.what = info.reason
            elif detail.Unpack(retry):
                self.retry_after = retry.retry_delay.ToMilliseconds() / 1000
        if info.domain == "causeway":
            # Control adds how long to wait to each failure that passes, and to no other.
            self.may_retry = self.retry_after is not None


class FeedBroken(Exception):
    """The feed cannot be followed any further, and is opened again at the stored version."""


class Control:
    """Calls to control, by the names that they have in the contract."""

    def __init__(self, address, ca=None, cert=None, key=None):
        # gRPC itself would wait for up to two minutes before it connects again.
        options = [("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 5_000)]
        if ca:
            read = lambda path: pathlib.Path(path).read_bytes() if path else None
            credentials = grpc.ssl_channel_credentials(read(ca), read(key), read(cert))
            channel = grpc.secure_channel(address.removeprefix("https://"), credentials, options)
        else:
            channel = grpc.insecure_channel(address.removeprefix("http://"), options)
        self.calls = {}
        for messages, stubs in [
            (version_service_pb2, version_service_pb2_grpc),
            (region_service_pb2, region_service_pb2_grpc),
            (slugs, slug_reservation_service_pb2_grpc),
            (directory_service_pb2, directory_service_pb2_grpc),
        ]:
            for name, service in messages.DESCRIPTOR.services_by_name.items():
                stub = getattr(stubs, name + "Stub")(channel)
                for method in service.methods:
                    self.calls[method.name] = getattr(stub, method.name), GetMessageClass(method.input_type)

    def ask(self, name, /, **fields):
        """Makes a call until it is answered, or fails for a reason that does not pass by itself."""
        call, request = self.calls[name]
        for attempt in itertools.count():
            try:
                return call(request(**fields), timeout=CALL)
            except grpc.RpcError as error:
                failure = Failure(error)
            if not failure.may_retry:
                raise failure
            if attempt == 0:
                say("waiting_for_control", call=name, reason=failure.what, message=str(failure))
            pause(attempt, failure.retry_after or 0)

    def watch(self, **fields):
        """The messages of the feed. It has no deadline; instead, control must not be silent for too long."""
        call, request = self.calls["WatchSlugReservations"]
        stream = call(request(**fields))
        try:
            while True:
                since, silence = time.monotonic(), threading.Timer(SILENCE, stream.cancel)
                silence.daemon = True
                silence.start()
                try:
                    message = next(stream, None)
                except grpc.RpcError as error:
                    if time.monotonic() - since >= SILENCE:
                        raise FeedBroken(f"control has said nothing for {SILENCE} s") from None
                    raise Failure(error) from None
                finally:
                    silence.cancel()
                if message is None:
                    raise FeedBroken("control has ended the feed")
                yield message
        finally:
            stream.cancel()


class Region:
    """The region: its database, and what it does with it."""

    def __init__(self, control, name, address, database):
        self.ask, self.watch, self.name, self.address = control.ask, control.watch, name, address
        self.notes, self.snapshots = [], 0
        self.db = sqlite3.connect(database, timeout=30, isolation_level=None)
        self.db.row_factory = sqlite3.Row
        self.db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;" + SCHEMA)
        with self.transaction():
            if self.one("SELECT 1 FROM region") is None:
                # The id of this database. Control lets no other database have the same name.
                self.write("INSERT INTO region (name, instance_id) VALUES (?, ?)", name, str(uuid.uuid4()))
        whose, self.instance_id = self.one("SELECT name, instance_id FROM region")
        if whose != name:
            sys.exit(f"{database} is the database of region {whose}, not of {name}")

    def one(self, sql, *values):
        return self.db.execute(sql, values).fetchone()

    def all(self, sql, *values):
        return [dict(row) for row in self.db.execute(sql, values)]

    def write(self, sql, *values):
        return self.db.execute(sql, values).rowcount

    def note(self, event, **fields):
        """Says something when the transaction has been committed, and not before."""
        self.notes.append((event, fields))

    @contextlib.contextmanager
    def transaction(self):
        """All of it or nothing. Nobody else writes meanwhile."""
        self.notes.clear()
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")
        for event, fields in self.notes:
            say(event, **fields)

    def organization(self, number):
        return self.one("SELECT * FROM organization WHERE id = ?", number)

    def owner(self, slug, other_than):
        """The organization of this region that has a slug, if it is another one."""
        row = self.one("SELECT id FROM organization WHERE slug = ? AND id <> ?", slug, other_than)
        return row["id"] if row else None

    def set_slug(self, number, slug):
        self.write("UPDATE organization SET slug = ? WHERE id = ?", slug, number)

    def known_as(self, number):
        """The slug by which control knows an organization, as far as the feed has told."""
        row = self.one("SELECT slug FROM replica WHERE organization_id = ? AND type = ?", number, PRIMARY)
        return row["slug"] if row else None

    def is_being_created(self, number):
        return self.one("SELECT 1 FROM creation WHERE organization_id = ? AND step <> 'done'", number) is not None

    # Registration

    def held_ids(self):
        """The ids in the table as ranges. If there would be too many, the smallest gaps are counted in."""
        ranges = []
        for (number,) in self.db.execute("SELECT id FROM organization ORDER BY id"):
            if ranges and ranges[-1][1] == number - 1:
                ranges[-1][1] = number
            else:
                ranges.append([number, number])
        gaps = sorted(range(1, len(ranges)), key=lambda at: ranges[at][0] - ranges[at - 1][1])
        too_many = sorted(gaps[: max(len(ranges) - MOST_RANGES, 0)], reverse=True)
        for at in too_many:
            ranges[at - 1][1] = ranges.pop(at)[1]
        ranges = [{"first_id": first, "last_id": last} for first, last in ranges]
        return {"model": MODEL, "ranges": ranges, "exact": not too_many}

    def register(self):
        """Asks whether this control can be talked to, and makes the region known to it. Again changes nothing."""
        needed = [version_service_pb2.CAPABILITY_SLUG_OPERATIONS]
        version = self.ask("GetVersion", contract_revision=CONTRACT_REVISION, required_capabilities=needed)
        if version.service != version_service_pb2.SERVICE_KIND_CONTROL:
            sys.exit(f"this is not control, but region {version.region}")
        who = {"name": self.name, "address": self.address, "instance_id": self.instance_id}
        answer = self.ask("RegisterRegion", **who, held_ids=[self.held_ids()])
        say("registered", region=self.name, instance_id=self.instance_id, control=version.version)
        for conflict in answer.conflicts:
            kind, ids = region_service_pb2.IdConflictKind.Name(conflict.kind), conflict.ids
            say("id_conflict", first=ids.first_id, last=ids.last_id, other_region=conflict.region, kind=kind)

    # Operations. Each may be confirmed or released again: that changes nothing, and has the same answer.

    def confirm_slugs(self, operation):
        """Says that the slugs of an operation are written. Returns how many became primary by that."""
        answer = self.ask("ConfirmOrganizationSlugReservations", region=self.name, operation_id=operation)
        return answer.reservation_count

    def release_slugs(self, operation, refusal=None):
        """Gives up an operation: its slugs are free again."""
        self.ask("ReleaseOrganizationSlugReservations", region=self.name, operation_id=operation, refusal=refusal)

    def report(self, *ids):
        """Tells control's directory what organizations are like now. Returns whether it takes all of them."""
        rows = [dict(row) for row in map(self.organization, ids) if row]
        reports = [{"organization_id": row.pop("id"), **row} for row in rows]
        refused = self.ask("ReportOrganizations", region=self.name, organizations=reports).refused
        for it in refused:
            reason = error_pb2.ErrorReason.Name(it.reason)
            say("report_refused", organization_id=it.organization_id, reason=reason, message=it.message)
        return not refused

    # New organizations: begun -> inserted -> written -> visible -> done

    def begin_creation(self, creation, name, slug):
        """Notes that an organization is to be made. The same id again is the same organization."""
        columns = "id, name, wanted_slug, step, lease_operation, slug_operation"
        row = creation, name, slug, "begun", str(uuid.uuid4()), str(uuid.uuid4())
        with self.transaction():
            if self.write(f"INSERT OR IGNORE INTO creation ({columns}) VALUES (?, ?, ?, ?, ?, ?)", *row):
                self.note("creation_begun", creation=creation, name=name, wanted_slug=slug)

    def finish_creations(self):
        """Takes each organization that is being made from the step that it is at to the last one."""
        for row in self.all("SELECT id FROM creation WHERE step <> 'done' ORDER BY rowid"):
            try:
                while (creation := self.one("SELECT * FROM creation WHERE id = ?", row["id"]))["step"] != "done":
                    try:
                        getattr(self, "when_" + creation["step"])(creation, creation["organization_id"])
                    except Failure as failure:
                        if failure.what != "OPERATION_RELEASED":
                            raise
                        # By an operator, or by this region, which died before it stored that.
                        self.ask_again(creation)
            except Failure as failure:
                if failure.what == "REGION_NOT_REGISTERED":
                    raise
                # It stays where it is, and is tried again later: somebody has to do what the reason says.
                say("creation_failed", creation=row["id"], reason=failure.what, message=str(failure))

    def move(self, creation, step, event, **changes):
        """Moves a creation to a step, in a transaction. False if another process of the region has moved it."""
        columns = ", ".join(f"{column} = ?" for column in ["step", *changes])
        before = creation["id"], creation["step"], creation["lease_operation"], creation["slug_operation"]
        where = "id = ? AND step = ? AND lease_operation = ? AND slug_operation = ?"
        moved = self.write(f"UPDATE creation SET {columns} WHERE {where}", step, *changes.values(), *before) == 1
        if moved:
            known = {"creation": creation["id"], "organization_id": creation["organization_id"]}
            self.note(event, **{**known, **changes})
        return moved

    def when_begun(self, creation, _):
        """Gets an id that no region has, and inserts the organization under it, hidden and without a slug."""
        (highest,) = self.one("SELECT COALESCE(MAX(id), 0) FROM organization WHERE id <= 1 << 52")
        block = {"operation_id": creation["lease_operation"], "model": MODEL, "count": 1, "above": highest}
        number = self.ask("LeaseIds", region=self.name, **block).first_id
        with self.transaction():
            if in_use := self.organization(number):
                # A row of that id was inserted by hand since the last registration.
                self.move(creation, "begun", "id_in_use", lease_operation=str(uuid.uuid4()))
            else:
                taken_here = self.owner(creation["wanted_slug"], number) is not None
                changes = {"organization_id": number, "taken_here": taken_here}
                if self.move(creation, "inserted", "organization_inserted", **changes):
                    row = number, creation["name"], HIDDEN
                    self.write("INSERT INTO organization (id, name, status) VALUES (?, ?, ?)", *row)
        if in_use:
            self.register()  # Says which ids there are now.

    def when_inserted(self, creation, number):
        """Has control reserve a slug, and writes it. All that is asked is stored: an operation always asks the same."""
        organization = {"organization_id": number, "slug": creation["wanted_slug"], "name": creation["name"]}
        organization["taken_in_region"] = bool(creation["taken_here"])
        who = {"region": self.name, "operation_id": creation["slug_operation"]}
        given = self.ask("CreateOrganizationSlugReservation", **who, organization=organization).slug
        with self.transaction():
            usable = self.owner(given.slug, number) is None
            if usable and self.move(creation, "written", "slug_written"):
                self.set_slug(number, given.slug)
                why = slugs.SlugVerdict.Name(given.verdict)
                self.note("slug_given", organization_id=number, wanted=given.wanted_slug, slug=given.slug, why=why)
        if not usable:  # An organization that control does not know has it.
            self.release_slugs(creation["slug_operation"])
            self.ask_again(creation, taken_here=True)

    def ask_again(self, creation, **changes):
        """The operation has been released: the slug is asked for under another one, and not used until then."""
        with self.transaction():
            if self.move(creation, "inserted", "slug_asked_again", slug_operation=str(uuid.uuid4()), **changes):
                self.set_slug(creation["organization_id"], None)

    def when_written(self, creation, number):
        """Tells control that the slug is written, and shows the organization."""
        if self.confirm_slugs(creation["slug_operation"]) == 0:
            return self.ask_again(creation)  # All that was held for the organization has been released.
        with self.transaction():
            if self.move(creation, "visible", "organization_visible"):
                self.write("UPDATE organization SET status = ? WHERE id = ?", ACTIVE, number)

    def when_visible(self, creation, number):
        """Tells control's directory of the organization."""
        self.report(number)
        with self.transaction():
            self.move(creation, "done", "creation_done")

    # The feed

    def take(self, message):
        """Takes in one message: replica, renames, what is to be answered and the version, in one transaction."""
        with self.transaction():
            version, snapshots = self.one("SELECT version, snapshots FROM region")
            if message.HasField("snapshot"):
                part = message.snapshot
                if part.first:
                    self.snapshots = snapshots = snapshots + 1
                elif (version, snapshots) != (0, self.snapshots):
                    raise FeedBroken("another process of this region has begun a snapshot")
                changed = [self.hold(reservation, snapshots) for reservation in part.reservations]
                version = 0  # What was known answers until the snapshot is complete. This says that it is not.
                if part.last:
                    version = part.version
                    forgotten = self.write("DELETE FROM replica WHERE snapshot <> ?", snapshots)
                    self.note("snapshot_taken", version=version, forgotten=forgotten)
            elif message.HasField("events"):
                changed = []
                for event in message.events.events:
                    if event.version != version + 1:
                        raise FeedBroken(f"event {event.version} has come after version {version}")
                    version = event.version
                    changed.append(self.change(event, snapshots))
            else:
                return version  # A heartbeat.
            for slug in dict.fromkeys(changed):
                self.rename(slug)
            self.write("UPDATE region SET version = ?, snapshots = ?", version, snapshots)
        return version

    def change(self, event, snapshots):
        """Takes in one change. Returns its slug."""
        if event.HasField("reservation"):
            change, what = event.reservation, slugs.ReservationType.Name(event.reservation.type)
            self.hold(change, snapshots)
        elif event.HasField("removed"):
            change, what = event.removed, "REMOVED"
            self.write("DELETE FROM replica WHERE slug = ?", change.slug)
        else:
            raise FeedBroken("an event is of a kind that this program does not know")
        self.note("feed", version=event.version, slug=change.slug, organization_id=change.organization_id, change=what)
        return change.slug

    def hold(self, reservation, snapshots):
        """A slug belongs to an organization from now on. Returns the slug."""
        slug, number = reservation.slug, reservation.organization_id
        if reservation.type == PRIMARY:
            # A rename may be over when it is heard of, if this database is an old copy. Not if the organization has a
            # slug that control did not give it: that was changed by hand, and a comparison shows it.
            before, here = self.known_as(number), self.organization(number)
            if here and before and here["slug"] == before != slug and not self.owner(slug, number):
                self.set_slug(number, slug)
                self.note("renamed_afterwards", organization_id=number, slug=slug, previous_slug=before)
            # Its other slugs lead to this one. What becomes of the old one comes as an event of its own.
            self.write("UPDATE replica SET type = ? WHERE organization_id = ? AND type = ?", ALIAS, number, PRIMARY)
        row = slug, number, reservation.type, reservation.operation_id, reservation.wanted, snapshots
        self.write("INSERT OR REPLACE INTO replica VALUES (?, ?, ?, ?, ?, ?)", *row)
        return slug

    def rename(self, slug):
        """If control wants an organization to have this slug: writes it, or finds out why not, and notes the answer."""
        # As it is after the whole message: a rename may have been given up in between. A snapshot tells it again.
        unanswered = "wanted AND operation_id NOT IN (SELECT operation_id FROM answer)"
        wanted = self.one(f"SELECT * FROM replica WHERE slug = ? AND {unanswered}", slug)
        if not wanted:
            return
        number, operation, reason, message = wanted["organization_id"], wanted["operation_id"], None, None
        here, owner = self.organization(number), self.owner(slug, number)
        previous = here["slug"] if here else None
        if not here:
            reason, message = error_pb2.ERROR_REASON_ORGANIZATION_NOT_FOUND, f"the region has no organization {number}"
        elif self.is_being_created(number):
            reason, message = error_pb2.ERROR_REASON_ORGANIZATION_NOT_READY, f"organization {number} is being made"
        elif owner:
            reason = error_pb2.ERROR_REASON_SLUG_TAKEN_IN_REGION
            message = f"organization {owner} of the region has the slug {slug}, which control does not know"
        else:
            self.set_slug(number, slug)
        self.write("INSERT INTO answer VALUES (?, ?, ?, ?, ?, ?)", operation, number, slug, previous, reason, message)
        event, outcome = ("rename_refused", {"why": message}) if reason else ("renamed", {"previous_slug": previous})
        self.note(event, operation=operation, organization_id=number, slug=slug, **outcome)

    def answer_renames(self):
        """Tells control what became of renames: a slug that is written is confirmed, any other is released."""
        for answer in self.all("SELECT * FROM answer ORDER BY rowid"):
            operation, reason, outcome = answer["operation_id"], answer["reason"], "confirmed"
            try:
                if reason is None:
                    self.confirm_slugs(operation)
                else:
                    self.release_slugs(operation, {"reason": reason, "message": answer["message"]})
                    outcome = "refused"
            except Failure as failure:
                # It has ended before. Only whoever has written the slug has something to do about it.
                outcome = failure.what
                if outcome not in ("OPERATION_RELEASED", "OPERATION_NOT_FOUND", "OPERATION_CONFIRMED"):
                    raise
            with self.transaction():
                if reason is None and outcome != "confirmed":
                    self.put_back(answer)
                self.write("DELETE FROM answer WHERE operation_id = ?", operation)
                self.note("rename_answered", operation=operation, outcome=outcome)

    def put_back(self, answer):
        """Control has given up a rename that is done here: the organization gets the slug by which control knows it.
        Not if it has yet another slug by now, or is to have this one by another operation."""
        number, slug = answer["organization_id"], answer["slug"]
        here, back = self.organization(number), self.known_as(number) or answer["previous_slug"]
        other = "slug = ? AND organization_id = ? AND operation_id <> ? AND (wanted OR type = ?)"
        held = self.one(f"SELECT 1 FROM replica WHERE {other}", slug, number, answer["operation_id"], PRIMARY)
        if here and here["slug"] == slug and not held and not self.owner(back, number):
            self.set_slug(number, back)
            self.note("put_back", organization_id=number, slug=back, given_up=slug)

    def follow(self, every):
        """Registers, and follows the feed for ever. Compares with control when it knows all, and then now and again."""
        due, attempt = 0.0, 0
        while True:
            try:
                self.register()
                self.answer_renames()
                self.finish_creations()
                (version,) = self.one("SELECT version FROM region")
                say("following", after_version=version)
                messages = self.watch(region=self.name, after_version=version, instance_id=self.instance_id)
                with contextlib.closing(messages):
                    for message in messages:
                        attempt = 0
                        version = self.take(message)
                        # Before the next message: a slug that was given up may be another organization's in that.
                        self.answer_renames()
                        # Control says with each message how far the feed was: whoever has that version knows all.
                        if version >= message.current_version and time.monotonic() >= due:
                            self.finish_creations()
                            snapshot_wanted = self.reconcile()
                            due = time.monotonic() + every * random.uniform(1, 1.1)
                            if snapshot_wanted:
                                break
            except (Failure, FeedBroken) as problem:
                what = getattr(problem, "what", "FEED_BROKEN")
                # Where control does not know the region, the next registration helps.
                if isinstance(problem, Failure) and not problem.may_retry and what != "REGION_NOT_REGISTERED":
                    raise
                say("disconnected", reason=what, message=str(problem))
                pause(attempt, getattr(problem, "retry_after", None) or 0)
                attempt += 1

    # Comparison

    def look(self):
        """What differs, by organization. Control is read first and the region after it: whatever the region has begun
        is noted here before control is asked for it."""
        held, version, token = {}, 0, ""
        while True:
            page = self.ask("ListHeldOrganizations", region=self.name, page_size=1_000, page_token=token)
            held.update((it.organization_id, it) for it in page.organizations)
            version, token = max(version, page.feed_version), page.next_page_token
            if not token:
                break
        behind = self.one("SELECT version FROM region")["version"] < version
        ids = {row["id"] for row in self.all("SELECT id FROM organization UNION SELECT organization_id FROM replica")}
        nothing = directory_service_pb2.HeldOrganization()
        return {it: self.differences(it, held.get(it, nothing), behind) for it in sorted(ids | set(held))}

    def differences(self, number, held, behind):
        """In what control and this region differ about one organization, each with its repair and what that needs."""
        answering = self.one("SELECT 1 FROM answer WHERE organization_id = ?", number)
        if answering or self.is_being_created(number) or held.rename_operation_id:
            return []  # Work in progress is not a difference.
        here, by_type = self.organization(number), {it.type: it for it in held.reservations}
        primary, left, found = by_type.get(PRIMARY), by_type.get(TEMPORARY), []
        confirmable = left and here and here["slug"] == left.slug and not primary
        if left:
            repair = "confirm" if confirmable else "release"
            found.append(("TEMPORARY_RESERVATION_LEFT", repair, left.operation_id))
        if here and primary:
            if here["slug"] != primary.slug:
                found.append(("SLUG_DIFFERS", None, primary.slug))
            if (held.listed.name, held.listed.status) != (here["name"], here["status"]):
                found.append(("DIRECTORY_DIFFERS", "report", None))
        elif here and not confirmable and here["status"] != HIDDEN:
            found.append(("ORGANIZATION_WITHOUT_RESERVATION", "reserve", here["slug"]))
        elif not here and (primary or ALIAS in by_type):
            found.append(("RESERVATION_WITHOUT_ORGANIZATION", None, (primary or by_type[ALIAS]).slug))
        known = {it["slug"]: it["type"] for it in self.all("SELECT * FROM replica WHERE organization_id = ?", number)}
        if not behind and known != {it.slug: it.type for it in held.reservations if it.type != TEMPORARY}:
            found.append(("REPLICA_DIFFERS", "snapshot", None))
        return found

    def reconcile(self):
        """Compares all organizations with control, and repairs what loses nothing. It reports the rest: people decide
        about it. Returns whether a snapshot is wanted."""
        first = self.look()
        again = {}
        if any(first.values()):
            time.sleep(1)  # What changes meanwhile is not a difference.
            again = self.look()
        settled = [(it, difference) for it in again for difference in again[it] if difference in first.get(it, [])]
        for number, (kind, repair, value) in settled:
            try:
                repaired = self.repair(number, repair, value)
            except Failure as failure:
                if failure.what == "REGION_NOT_REGISTERED":
                    raise
                repaired = False
                say("repair_failed", organization_id=number, kind=kind, reason=failure.what, message=str(failure))
            say("difference", organization_id=number, kind=kind, value=value, repaired=repaired)
        say("compared", organizations=len(first), differences=len(settled))
        return any(repair == "snapshot" for _, (_, repair, _) in settled)

    def repair(self, number, repair, value):
        """Repairs one difference, by calls or a transaction that can be made again. Returns whether it has."""
        if repair == "confirm":
            self.confirm_slugs(value)
        elif repair == "release":
            self.release_slugs(value)
        elif repair == "snapshot":
            with self.transaction():
                self.write("UPDATE region SET version = 0")
        elif repair == "reserve" and not self.reserve_as_it_is(number, value):
            return False
        return self.report(number) if repair in ("confirm", "reserve", "report") else repair is not None

    def reserve_as_it_is(self, number, slug):
        """Reserves the slug that an organization has, if it can be had. If this dies half way, a temporary reservation
        is left, and the next comparison confirms or releases it."""
        wanted, operation = {"organization_id": number, "slug": slug}, str(uuid.uuid4())
        check = self.ask("CheckSlugs", organizations=[wanted], region=self.name).checks[0]
        if check.verdict != slugs.SLUG_VERDICT_FREE or check.id_taken_by_region:
            return False
        who = {"region": self.name, "operation_id": operation}
        if self.ask("CreateOrganizationSlugReservation", **who, organization=wanted).slug.slug == slug:
            return self.confirm_slugs(operation) == 1
        self.release_slugs(operation)  # Somebody was faster.
        return False

    def show(self):
        """Prints all that is stored, as JSON."""
        tables = ("organization", "replica", "creation", "answer")
        rows = {table: self.all(f"SELECT * FROM {table} ORDER BY 1") for table in tables}
        print(json.dumps({**self.one("SELECT * FROM region"), **rows}, indent=2))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stubs", metavar="GEN", help="where the generated code is")
    parser.add_argument("--control", metavar="ADDR", required=True, help="where control is, e.g. 127.0.0.1:50051")
    parser.add_argument("--tls-ca", metavar="FILE", help="the CA of control, if it speaks TLS")
    parser.add_argument("--tls-cert", metavar="FILE", help="the certificate of the region, if control wants one")
    parser.add_argument("--tls-key", metavar="FILE", help="its private key")
    parser.add_argument("--name", required=True, help="the name of the region")
    parser.add_argument("--database", metavar="FILE", required=True, help="the SQLite file; made if it is not there")
    parser.add_argument("--address", metavar="URL", default="http://127.0.0.1:8080", help="where users reach it")
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make an organization")
    create.add_argument("called", metavar="NAME")
    create.add_argument("slug", metavar="SLUG")
    create.add_argument("--id", default=str(uuid.uuid4()), help="the same id again is the same organization")
    run = commands.add_parser("run", help="follow control until stopped")
    run.add_argument("--reconcile-every", metavar="SECONDS", type=float, default=3600)
    commands.add_parser("list", help="print what the region has")
    options = parser.parse_args()
    control = Control(options.control, options.tls_ca, options.tls_cert, options.tls_key)
    region = Region(control, options.name, options.address, options.database)
    try:
        if options.command == "list":
            region.show()
        elif options.command == "run":
            region.follow(options.reconcile_every)
        else:
            region.begin_creation(options.id, options.called, options.slug)
            region.register()
            region.finish_creations()
            (step,) = region.one("SELECT step FROM creation WHERE id = ?", options.id)
            sys.exit(0 if step == "done" else 1)
    except Failure as failure:
        say("failed", reason=failure.what, message=str(failure))
        sys.exit(1)


if __name__ == "__main__":
    # Either signal ends the process at once. What is half done then is finished at the next start.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    main()
