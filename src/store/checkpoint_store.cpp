#include "store/checkpoint_store.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <map>
#include <set>

#include "base/assert.hpp"
#include "store/durable_file.hpp"
#include "store/hash.hpp"
#include "store/manifest.hpp"
#include "store/object_store.hpp"
#include "store/sqlite.hpp"

namespace drover {

using namespace store;

namespace {

constexpr int kApplicationId = 0x64726b70, kSchemaVersion = 1, kBusyMs = 5000;
constexpr std::uint64_t kManifestBytesMax = 16u << 20;
constexpr std::size_t kManifestsKept = 1024;

constexpr const char* kSchema =
    "CREATE TABLE lineage(name TEXT PRIMARY KEY, epoch INTEGER NOT NULL, steps_max INTEGER NOT NULL, head TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE checkpoint(number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, lineage TEXT NOT NULL, parent TEXT NOT NULL, step INTEGER NOT NULL,"
    " status TEXT NOT NULL, pinned INTEGER NOT NULL, metric REAL, reason TEXT NOT NULL, manifest TEXT NOT NULL);"
    "CREATE INDEX checkpoint_of ON checkpoint(lineage, number);"
    "CREATE TABLE tombstone(number INTEGER PRIMARY KEY, id TEXT NOT NULL, lineage TEXT NOT NULL, parent TEXT NOT NULL, step INTEGER NOT NULL);";

std::string now_text() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
}

CheckpointStatus status_named(std::string_view name) {
  for (const CheckpointStatus status : {CheckpointStatus::verified, CheckpointStatus::good})
    if (name == name_of(status)) return status;
  return CheckpointStatus::quarantined;  // nothing else is written; what is unknown is not handed out
}

}  // namespace

struct CheckpointStore::Impl {
  FileSystem* fs = nullptr;
  std::string directory;
  Database database;
  std::optional<ObjectStore> objects;
  std::map<std::string, Manifest> manifests;  ///< by id

  std::string manifest_path(const std::string& id) const { return directory + "/manifests/" + id; }

  // ---- bytes ----
  Result<StoredFile> put_file(const NewCheckpoint::File& file, const StoredFile* before) {
    if (!is_safe_name(file.name)) return fail(ErrorCode::usage, fmt::format("checkpoint file name '{}': must be relative and stay inside the checkpoint", file.name));
    const BytesView* const bytes = std::get_if<BytesView>(&file.source);
    if (file.changes_only && bytes == nullptr) return fail(ErrorCode::usage, fmt::format("checkpoint file '{}': only bytes in memory can be committed by their changes", file.name));
    DROVER_TRY(StoredFile stored, file.changes_only ? objects->put_changed(file.name, *bytes, before) : objects->put(file.name, file.source));
    stored.tensors = file.tensors;
    if (stored.tensors.empty() && file.name.ends_with(".safetensors")) {
      auto found = safetensors_in(stored.bytes, [&](std::uint64_t offset, std::size_t size) { return objects->read(stored, offset, size); });
      if (!found) return std::unexpected(std::move(found).error().with(fmt::format("'{}'", file.name)));
      stored.tensors = std::move(*found);
    }
    for (const Tensor& tensor : stored.tensors)
      if (tensor.offset > stored.bytes || tensor.bytes > stored.bytes - tensor.offset) return fail(ErrorCode::usage, fmt::format("tensor '{}' does not lie in '{}'", tensor.name, file.name));
    return stored;
  }
  Result<> check_object(const StoredFile& file) { return objects->check(file); }

  /// A small file that must be there after a power failure; one that is there already is synced again.
  Result<> put_small(const std::string& folder, const std::string& name, std::string_view text) {
    const std::string path = directory + "/" + folder;
    DROVER_TRY(StagedFile staged, StagedFile::open(*fs, path, name));
    DROVER_CHECK(staged.file().write_at(0, std::as_bytes(std::span(text))));
    DROVER_CHECK(staged.sync());
    auto named = staged.publish();
    if (!named && named.error().code() == ErrorCode::exists) {
      DROVER_TRY(const std::string there, fs->read_file(path + "/" + name));
      if (there != text) {
        DROVER_CHECK(fs->unlink(path + "/" + name));
        DROVER_CHECK(staged.publish());
      } else {
        DROVER_TRY(const std::unique_ptr<File> file, fs->open(path + "/" + name, OpenMode::read_write));
        DROVER_CHECK(file->sync());
      }
    } else if (!named) {
      return named;
    }
    return fs->sync_directory(path);
  }
  Result<> remove(const std::string& path) {
    auto gone = fs->unlink(path);
    if (!gone && gone.error().code() != ErrorCode::not_found) return gone;
    return {};
  }

  // ---- rows ----
  static constexpr std::string_view kColumns = "SELECT c.number, c.id, c.status, c.pinned, c.reason, c.manifest, l.head = c.id FROM checkpoint c JOIN lineage l ON l.name = c.lineage ";

  Result<CheckpointEntry> entry_of(const Statement& row) {
    CheckpointEntry entry{.number = row.unsigned_integer(0), .id = row.text(1), .status = status_named(row.text(2)), .pinned = row.integer(3) != 0, .head = row.integer(6) != 0, .reason = row.text(4), .manifest = {}};
    // A manifest never changes: the same id is the same text.
    if (const auto known = manifests.find(entry.id); known != manifests.end()) {
      entry.manifest = known->second;
      return entry;
    }
    auto manifest = parse_manifest(row.text(5));
    if (!manifest) return std::unexpected(std::move(manifest).error().with(fmt::format("checkpoint {}", entry.number)).advise("drover ckpt fsck rebuilds the database from the manifests"));
    if (manifests.size() >= kManifestsKept) manifests.clear();
    entry.manifest = manifests.emplace(entry.id, std::move(*manifest)).first->second;
    return entry;
  }
  Result<std::vector<CheckpointEntry>> entries(std::string_view where, const std::vector<std::string>& texts) {
    DROVER_TRY(Statement select, database.prepare(std::string(kColumns) + std::string(where)));
    for (std::size_t i = 0; i < texts.size(); ++i) select.bind(static_cast<int>(i) + 1, texts[i]);
    std::vector<CheckpointEntry> found;
    for (;;) {
      DROVER_TRY(const bool row, select.step());
      if (!row) return found;
      DROVER_TRY(CheckpointEntry entry, entry_of(select));
      found.push_back(std::move(entry));
    }
  }
  Result<CheckpointEntry> entry_with(const std::string& id) {
    DROVER_TRY(std::vector<CheckpointEntry> found, entries("WHERE c.id = ?1", {id}));
    if (found.empty()) return fail(ErrorCode::not_found, fmt::format("there is no checkpoint '{}'", id), "drover ckpt ls lists them");
    return std::move(found.front());
  }
  Result<> set_head(const std::string& lineage, const std::string& id) {
    DROVER_TRY(Statement update, database.prepare("UPDATE lineage SET head = ?2 WHERE name = ?1"));
    return update.bind(1, lineage).bind(2, id).run();
  }
  Result<> set_status(const std::string& id, CheckpointStatus status, const std::string& reason) {
    DROVER_TRY(Statement update, database.prepare("UPDATE checkpoint SET status = ?2, reason = ?3 WHERE id = ?1"));
    return update.bind(1, id).bind(2, name_of(status)).bind(3, reason).run();
  }
  /// What stays of a deleted one: that it was, and where. It leaves the table, or every listing would take time with all that ever was.
  Result<> bury(const std::string& id) {
    DROVER_TRY(Statement bury, database.prepare("INSERT INTO tombstone SELECT number, id, lineage, parent, step FROM checkpoint WHERE id = ?1"));
    DROVER_CHECK(bury.bind(1, id).run());
    DROVER_TRY(Statement forget, database.prepare("DELETE FROM checkpoint WHERE id = ?1"));
    return forget.bind(1, id).run();
  }
  Result<> insert(const Manifest& manifest, const std::string& id, const std::string& text, CheckpointStatus status, bool pinned, const std::string& reason) {
    DROVER_TRY(Statement row, database.prepare("INSERT INTO checkpoint(id, lineage, parent, step, status, pinned, metric, reason, manifest) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9)"));
    row.bind(1, id).bind(2, manifest.lineage).bind(3, manifest.parent).bind(4, manifest.step).bind(5, name_of(status)).bind(6, pinned ? 1 : 0);
    const std::string metric = manifest.metric ? fmt::format("{}", *manifest.metric) : std::string();
    if (manifest.metric) row.bind(7, metric);  // REAL affinity turns the text into the number
    else row.bind_null(7);
    return row.bind(8, reason).bind(9, text).run();
  }
  /// The newest good one of a lineage that is older than `number` (0 = any).
  Result<std::string> newest_good_before(const std::string& lineage, std::uint64_t number) {
    DROVER_TRY(Statement select, database.prepare("SELECT id FROM checkpoint WHERE lineage = ?1 AND status = 'good' AND (?2 = 0 OR number < ?2) ORDER BY number DESC LIMIT 1"));
    select.bind(1, lineage).bind(2, number);
    DROVER_TRY(const bool row, select.step());
    return row ? select.text(0) : std::string();
  }
};

// ---- opening ---------------------------------------------------------------------------------------------------------------------

Result<CheckpointStore> CheckpointStoreAccess::open(FileSystem& fs, const std::string& directory, const std::string& vfs) {
  const auto opened = [&]() -> Result<std::unique_ptr<CheckpointStore::Impl>> {
    for (const char* folder : {"", "/objects", "/manifests", "/pins", "/quarantine"}) DROVER_CHECK(fs.make_directories(directory + folder));
    DROVER_TRY(const bool network, fs.is_network(directory));
    if (network) return fail(ErrorCode::refused, "this is a network file system, where SQLite's locks and mapped pages do not hold", "name a directory on a local disk");
    auto impl = std::make_unique<CheckpointStore::Impl>();
    impl->fs = &fs;
    impl->directory = directory;
    impl->objects.emplace(fs, directory + "/objects");
    const std::string path = directory + "/store.db";
    DROVER_TRY(const bool there, fs.exists(path));
    if (!there) {
      DROVER_TRY(const std::vector<std::string> manifests, fs.list(directory + "/manifests"));
      if (!manifests.empty())
        return fail(ErrorCode::corrupt, fmt::format("its database is missing, and there are {} manifests", manifests.size()), "drover ckpt fsck rebuilds the database from them; nothing starts afresh by itself");
    }
    DROVER_TRY(impl->database, Database::open(path, there ? DatabaseMode::read_write : DatabaseMode::create_new, vfs, kBusyMs));
    Database& database = impl->database;
    DROVER_TRY(const std::string mode, database.text_of("PRAGMA journal_mode=WAL"));
    if (mode != "wal") return fail(ErrorCode::unavailable, "this file system gives no shared mapping for the write-ahead log");
    DROVER_CHECK(database.execute("PRAGMA synchronous=FULL"));
    DROVER_TRY(Transaction transaction, Transaction::begin(database));
    DROVER_TRY(const std::int64_t application, database.integer_of("PRAGMA application_id"));
    DROVER_TRY(const std::int64_t version, database.integer_of("PRAGMA user_version"));
    if (application == 0 && version == 0) {
      DROVER_CHECK(database.execute(kSchema));
      DROVER_CHECK(database.execute(fmt::format("PRAGMA application_id={}; PRAGMA user_version={}", kApplicationId, kSchemaVersion).c_str()));
    } else if (application != kApplicationId) {
      return fail(ErrorCode::corrupt, "its database belongs to another program", "name another directory");
    } else if (version != kSchemaVersion) {
      return fail(ErrorCode::refused, fmt::format("its database has version {}, this drover reads {}", version, kSchemaVersion), "use the drover that made it");
    }
    DROVER_CHECK(transaction.commit());
    if (!there) {
      DROVER_CHECK(fs.sync_directory(directory));
    } else {
      DROVER_TRY(const std::string verdict, database.text_of("PRAGMA quick_check(1)"));
      if (verdict != "ok") return fail(ErrorCode::corrupt, "its database is damaged: " + verdict, "drover ckpt fsck rebuilds it from the manifests");
    }
    return impl;
  }();
  if (!opened) return std::unexpected(Error(opened.error()).with(fmt::format("checkpoint store '{}'", directory)));
  return CheckpointStore(std::move(const_cast<std::unique_ptr<CheckpointStore::Impl>&>(*opened)));
}

Result<CheckpointStore> CheckpointStore::open(const std::string& directory) { return CheckpointStoreAccess::open(posix_file_system(), directory, ""); }
CheckpointStore::CheckpointStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CheckpointStore::CheckpointStore(CheckpointStore&&) noexcept = default;
CheckpointStore& CheckpointStore::operator=(CheckpointStore&&) noexcept = default;
CheckpointStore::~CheckpointStore() = default;

// ---- writing ---------------------------------------------------------------------------------------------------------------------

Result<WriterLease> CheckpointStore::acquire(const std::string& lineage, std::optional<std::uint64_t> steps_max) {
  if (!is_safe_name(lineage) || lineage.find('/') != std::string::npos) return fail(ErrorCode::usage, fmt::format("lineage '{}': must be a name without '/'", lineage));
  Database& database = impl_->database;
  DROVER_TRY(Transaction transaction, Transaction::begin(database));
  DROVER_TRY(Statement upsert, database.prepare("INSERT INTO lineage VALUES(?1, 1, ?2, '') ON CONFLICT(name) DO UPDATE SET epoch = epoch + 1, steps_max = CASE ?3 WHEN 1 THEN ?2 ELSE steps_max END"));
  DROVER_CHECK(upsert.bind(1, lineage).bind(2, steps_max.value_or(0)).bind(3, steps_max ? 1 : 0).run());
  DROVER_TRY(Statement select, database.prepare("SELECT epoch FROM lineage WHERE name = ?1"));
  select.bind(1, lineage);
  DROVER_TRY(const bool row, select.step());
  DROVER_ASSERT(row);
  const WriterLease lease{lineage, select.unsigned_integer(0)};
  select.reset();
  DROVER_CHECK(transaction.commit());
  return lease;
}

Result<CheckpointEntry> CheckpointStore::commit(const WriterLease& lease, const NewCheckpoint& given) {
  Impl& i = *impl_;
  const auto committed = [&]() -> Result<CheckpointEntry> {
    Manifest manifest{.lineage = lease.lineage, .parent = given.parent, .epoch = lease.epoch, .step = given.step, .run = given.run, .argv = given.argv, .created = now_text(), .fingerprint = given.fingerprint, .state = given.state, .metric = given.metric, .metrics = given.metrics, .files = {}};
    if (manifest.metric && !std::isfinite(*manifest.metric)) return fail(ErrorCode::usage, "its metric is not a finite number", "say it among `metrics`, where a probe sees it");
    if (given.files.empty()) return fail(ErrorCode::usage, "a checkpoint needs at least one file");
    // Who the parent is belongs into the manifest, so it is looked up first and looked at again inside the transaction.
    if (manifest.parent.empty() && !given.root) {
      DROVER_TRY(Statement head, i.database.prepare("SELECT head FROM lineage WHERE name = ?1"));
      head.bind(1, lease.lineage);
      DROVER_TRY(const bool row, head.step());
      if (row) manifest.parent = head.text(0);
    }
    std::vector<StoredFile> before;
    if (!manifest.parent.empty() && std::ranges::any_of(given.files, &NewCheckpoint::File::changes_only))
      if (auto parent = i.entry_with(manifest.parent)) before = std::move(parent->manifest.files);
    for (const NewCheckpoint::File& file : given.files) {
      const auto same = std::ranges::find(before, file.name, &StoredFile::name);
      DROVER_TRY(StoredFile stored, i.put_file(file, same == before.end() ? nullptr : &*same));
      if (std::ranges::find(manifest.files, stored.name, &StoredFile::name) != manifest.files.end()) return fail(ErrorCode::usage, fmt::format("checkpoint file name '{}' is given twice", stored.name));
      manifest.files.push_back(std::move(stored));
    }
    DROVER_CHECK(i.objects->sync());
    const std::string text = text_of(manifest), id = hex_of(sha256_of(text));
    DROVER_CHECK(i.put_small("manifests", id, text));

    DROVER_TRY(Transaction transaction, Transaction::begin(i.database));
    DROVER_TRY(Statement lineage, i.database.prepare("SELECT epoch, steps_max FROM lineage WHERE name = ?1"));
    lineage.bind(1, lease.lineage);
    DROVER_TRY(const bool known, lineage.step());
    if (!known) return fail(ErrorCode::not_found, fmt::format("lineage '{}' is not known", lease.lineage), "acquire it first");
    const std::uint64_t epoch = lineage.unsigned_integer(0), steps_max = lineage.unsigned_integer(1);
    lineage.reset();
    if (epoch != lease.epoch) return fail(ErrorCode::fenced, fmt::format("fenced: the lease of epoch {} is over, epoch {} holds '{}'", lease.epoch, epoch, lease.lineage), "this writer must end; what it wrote is not referenced");
    if (steps_max != 0 && manifest.step > steps_max) return fail(ErrorCode::limit_steps, fmt::format("limit(steps): step {} is beyond the {} of '{}'", manifest.step, steps_max, lease.lineage), "the budget belongs to the lineage, not to a run");
    if (!manifest.parent.empty()) {
      DROVER_TRY(Statement parent, i.database.prepare("SELECT 1 FROM checkpoint WHERE id = ?1"));
      parent.bind(1, manifest.parent);
      DROVER_TRY(const bool there, parent.step());
      if (!there) return fail(ErrorCode::not_found, fmt::format("the parent '{}' does not exist", manifest.parent));
    }
    // Whoever collected garbage while this was being written took it for garbage: it held the same lock, so it is over or not begun.
    for (const StoredFile& file : manifest.files) {
      const auto present = i.objects->present(file);
      if (!present || !*present) return fail(ErrorCode::busy, fmt::format("'{}' was collected as garbage before it was committed", file.name), "commit it again");
    }
    DROVER_TRY(const bool described, i.fs->exists(i.manifest_path(id)));
    if (!described) return fail(ErrorCode::busy, "its manifest was collected as garbage before it was committed", "commit it again");
    DROVER_TRY(Statement same, i.database.prepare("SELECT 1 FROM checkpoint WHERE id = ?1"));
    same.bind(1, id);
    DROVER_TRY(const bool known_id, same.step());
    if (known_id) return i.entry_with(id);  // committed before, and its caller did not hear of it
    same.reset();
    DROVER_CHECK(i.insert(manifest, id, text, given.probed ? CheckpointStatus::verified : CheckpointStatus::good, false, ""));
    if (!given.probed) DROVER_CHECK(i.set_head(lease.lineage, id));
    DROVER_CHECK(transaction.commit());
    return i.entry_with(id);
  }();
  if (!committed) return std::unexpected(Error(committed.error()).with(fmt::format("checkpoint at step {} of '{}'", given.step, lease.lineage)));
  return committed;
}

Result<void> CheckpointStore::mark_good(const std::string& id) {
  Impl& i = *impl_;
  DROVER_TRY(Transaction transaction, Transaction::begin(i.database));
  DROVER_TRY(const CheckpointEntry entry, i.entry_with(id));
  if (entry.status == CheckpointStatus::good) return {};
  if (entry.status != CheckpointStatus::verified) return fail(ErrorCode::refused, fmt::format("checkpoint {} is {}", entry.number, name_of(entry.status)));
  DROVER_CHECK(i.set_status(id, CheckpointStatus::good, ""));
  DROVER_TRY(const std::string newest, i.newest_good_before(entry.manifest.lineage, 0));
  if (newest == id) DROVER_CHECK(i.set_head(entry.manifest.lineage, id));
  return transaction.commit();
}

Result<void> CheckpointStore::quarantine(const std::string& id, const std::string& reason) {
  Impl& i = *impl_;
  DROVER_TRY(const CheckpointEntry before, i.entry_with(id));
  DROVER_CHECK(i.put_small("quarantine", id, reason));  // first: a rebuilt database must not take it for good
  DROVER_TRY(Transaction transaction, Transaction::begin(i.database));
  DROVER_TRY(const CheckpointEntry entry, i.entry_with(id));
  DROVER_CHECK(i.set_status(id, CheckpointStatus::quarantined, reason));
  if (entry.head) {
    DROVER_TRY(const std::string back, i.newest_good_before(entry.manifest.lineage, entry.number));
    DROVER_CHECK(i.set_head(entry.manifest.lineage, back));
  }
  return transaction.commit();
}

Result<void> CheckpointStore::pin(const std::string& id, bool pinned) {
  Impl& i = *impl_;
  DROVER_TRY(const CheckpointEntry entry, i.entry_with(id));
  if (pinned) DROVER_CHECK(i.put_small("pins", id, "pinned\n"));
  {
    DROVER_TRY(Transaction transaction, Transaction::begin(i.database));
    DROVER_TRY(Statement update, i.database.prepare("UPDATE checkpoint SET pinned = ?2 WHERE id = ?1"));
    DROVER_CHECK(update.bind(1, id).bind(2, pinned ? 1 : 0).run());
    if (i.database.changes() == 0) return fail(ErrorCode::not_found, fmt::format("checkpoint '{}' is gone", id));
    DROVER_CHECK(transaction.commit());
  }
  if (!pinned) return i.remove(i.directory + "/pins/" + id);
  return {};
}

Result<void> CheckpointStore::rollback(const std::string& id) {
  Impl& i = *impl_;
  DROVER_TRY(Transaction transaction, Transaction::begin(i.database));
  DROVER_TRY(const CheckpointEntry entry, i.entry_with(id));
  if (entry.status != CheckpointStatus::good) return fail(ErrorCode::refused, fmt::format("checkpoint {} is {}, not good", entry.number, name_of(entry.status)));
  DROVER_CHECK(i.set_head(entry.manifest.lineage, id));
  return transaction.commit();
}

// ---- reading ---------------------------------------------------------------------------------------------------------------------

Result<CheckpointEntry> CheckpointStore::newest_good(const std::string& lineage, const Fingerprint& expected) {
  DROVER_TRY(std::vector<CheckpointEntry> found, impl_->entries("WHERE c.lineage = ?1 AND c.id = l.head", {lineage}));
  if (found.empty()) return fail(ErrorCode::not_found, fmt::format("lineage '{}' has no good checkpoint", lineage), "starting afresh must be asked for");
  CheckpointEntry& entry = found.front();
  if (const auto lines = differences(expected, entry.manifest.fingerprint); !lines.empty())
    return fail(ErrorCode::mismatch, fmt::format("checkpoint {} (step {}) was made for something else: {}", entry.number, entry.manifest.step, lines.front()), fmt::format("{}", fmt::join(lines, "; ")));
  for (const StoredFile& file : entry.manifest.files) {
    auto good = impl_->check_object(file);
    if (!good) return std::unexpected(std::move(good).error().with(fmt::format("checkpoint {}", entry.number)).advise("drover ckpt verify quarantines what is damaged; then the newest good one before it is used"));
  }
  return std::move(entry);
}

Result<std::optional<CheckpointEntry>> CheckpointStore::resume_point(const std::string& lineage, const Fingerprint& expected, const std::string& run, bool fresh) {
  DROVER_TRY(const std::vector<CheckpointEntry> there, list(lineage));
  if (there.empty() || (fresh && std::ranges::none_of(there, [&](const CheckpointEntry& one) { return one.head && one.manifest.run == run; }))) return std::nullopt;
  auto newest = newest_good(lineage, expected);
  if (newest) return std::optional(std::move(*newest));
  if (newest.error().code() != ErrorCode::not_found) return std::unexpected(std::move(newest).error());
  return fail(ErrorCode::refused, fmt::format("lineage '{}' has {} checkpoints and none of them is good", lineage, there.size()), "`drover ckpt ls` shows them; --fresh starts anew beside them");
}

Result<void> CheckpointStore::restore(const CheckpointEntry& entry, const std::string& directory) {
  FileSystem& fs = *impl_->fs;
  DROVER_CHECK(fs.make_directories(directory));
  DROVER_TRY(const std::vector<std::string> there, fs.list(directory));
  if (!there.empty()) return fail(ErrorCode::refused, fmt::format("'{}' is not empty", directory), "name a new directory");
  std::vector<std::string> written;
  const auto copied = [&]() -> Result<void> {
    for (const StoredFile& file : entry.manifest.files) {
      const std::string path = directory + "/" + file.name;
      if (const auto slash = path.rfind('/'); slash > directory.size()) DROVER_CHECK(fs.make_directories(path.substr(0, slash)));
      DROVER_TRY(const std::unique_ptr<File> to, fs.open(path, OpenMode::create_new));
      written.push_back(path);
      if (auto done = impl_->objects->copy(file, *to); !done)
        return std::unexpected(std::move(done).error().with(fmt::format("checkpoint {}", entry.number)).advise("drover ckpt verify quarantines what is damaged"));
    }
    return {};
  }();
  if (!copied)
    for (const std::string& path : written) (void)fs.unlink(path);  // all or nothing
  return copied;
}

Result<Bytes> CheckpointStore::read(const StoredFile& file, std::uint64_t offset, std::size_t size) { return impl_->objects->read(file, offset, size); }

Result<std::vector<CheckpointEntry>> CheckpointStore::list(const std::string& lineage) {
  if (lineage.empty()) return impl_->entries("ORDER BY c.number", {});
  return impl_->entries("WHERE c.lineage = ?1 ORDER BY c.number", {lineage});
}

Result<CheckpointEntry> CheckpointStore::find(const std::string& prefix) {
  DROVER_TRY(std::vector<CheckpointEntry> all, list());
  std::erase_if(all, [&](const CheckpointEntry& one) { return !(one.id.starts_with(prefix) || fmt::format("{}", one.number) == prefix); });
  if (prefix.empty() || all.empty()) return fail(ErrorCode::not_found, fmt::format("there is no checkpoint '{}'", prefix), "drover ckpt ls lists them");
  const auto exact = std::ranges::find_if(all, [&](const CheckpointEntry& one) { return fmt::format("{}", one.number) == prefix || one.id == prefix; });
  if (exact != all.end()) return std::move(*exact);
  if (all.size() > 1) return fail(ErrorCode::refused, fmt::format("'{}' names {} checkpoints", prefix, all.size()), "give more digits, or the number");
  return std::move(all.front());
}

// ---- keeping house ---------------------------------------------------------------------------------------------------------------

Result<std::vector<std::string>> CheckpointStore::retain(const std::string& lineage, const Retention& retention) {
  Impl& i = *impl_;
  std::vector<std::string> gone;
  {
    DROVER_TRY(Transaction transaction, Transaction::begin(i.database));
    DROVER_TRY(const std::vector<CheckpointEntry> all, list(lineage));
    std::vector<const CheckpointEntry*> good;
    for (const CheckpointEntry& one : all)
      if (one.status == CheckpointStatus::good) good.push_back(&one);
    std::set<std::string> kept;
    for (const CheckpointEntry& one : all) {
      if (one.pinned || one.head || one.status == CheckpointStatus::verified) kept.insert(one.id);  // a probe has still to speak
      if (retention.every_steps != 0 && one.status == CheckpointStatus::good && one.manifest.step % retention.every_steps == 0) kept.insert(one.id);
      // What somebody goes on from: the parent of the head, and of what waits for its probe.
      if (one.head || one.status == CheckpointStatus::verified) kept.insert(one.manifest.parent);
    }
    for (std::size_t n = 0; n < std::min<std::size_t>(retention.last, good.size()); ++n) kept.insert(good[good.size() - 1 - n]->id);
    std::vector<const CheckpointEntry*> ranked;
    for (const CheckpointEntry* one : good)
      if (one->manifest.metric) ranked.push_back(one);
    std::ranges::stable_sort(ranked, [](const CheckpointEntry* a, const CheckpointEntry* b) { return *a->manifest.metric > *b->manifest.metric || (*a->manifest.metric == *b->manifest.metric && a->number > b->number); });
    for (std::size_t n = 0; n < std::min<std::size_t>(retention.best, ranked.size()); ++n) kept.insert(ranked[n]->id);

    const std::size_t remaining = static_cast<std::size_t>(std::ranges::count_if(all, [&](const CheckpointEntry& one) { return kept.contains(one.id); }));
    if (retention.count_max != 0 && remaining > retention.count_max)
      return fail(ErrorCode::limit_checkpoints, fmt::format("limit(checkpoints): {} checkpoints of '{}' are protected, {} are allowed", remaining, lineage, retention.count_max), "unpin some, or allow more; nothing was deleted");
    std::uint32_t evidence = 0;
    for (auto one = all.rbegin(); one != all.rend() && evidence < retention.quarantined; ++one)
      if (one->status == CheckpointStatus::quarantined) {
        kept.insert(one->id);
        ++evidence;
      }
    // A newer good one that is durable: the head is one, and it is never among those that go. Without a head nothing goes.
    const bool has_head = std::ranges::any_of(all, &CheckpointEntry::head);
    for (const CheckpointEntry& one : all)
      if (has_head && !kept.contains(one.id)) gone.push_back(one.id);
    for (const std::string& id : gone) DROVER_CHECK(i.bury(id));
    DROVER_CHECK(transaction.commit());
  }
  for (const std::string& id : gone) {
    DROVER_CHECK(i.remove(i.manifest_path(id)));
    DROVER_CHECK(i.remove(i.directory + "/quarantine/" + id));
  }
  if (!gone.empty()) {
    DROVER_CHECK(collect_garbage());
  }
  return gone;
}

Result<std::vector<CheckpointEntry>> CheckpointStore::verify() {
  DROVER_TRY(const std::vector<CheckpointEntry> all, list());
  std::vector<CheckpointEntry> damaged;
  for (const CheckpointEntry& entry : all) {
    if (entry.status == CheckpointStatus::quarantined) continue;
    std::string what;
    for (const StoredFile& file : entry.manifest.files)
      if (auto good = impl_->check_object(file); !good && what.empty()) what = good.error().what();
    if (const auto text = impl_->fs->read_file(impl_->manifest_path(entry.id), kManifestBytesMax); what.empty() && (!text || *text != text_of(entry.manifest))) what = "its manifest is " + std::string(text ? "damaged" : "missing");
    if (what.empty()) continue;
    DROVER_CHECK(quarantine(entry.id, what));
    DROVER_TRY(CheckpointEntry now, impl_->entry_with(entry.id));
    damaged.push_back(std::move(now));
  }
  return damaged;
}

Result<std::uint64_t> CheckpointStore::collect_garbage() {
  Impl& i = *impl_;
  // The write lock keeps committers out of their transaction; there they find that what they staged is gone, and commit nothing.
  DROVER_TRY(Transaction transaction, Transaction::begin(i.database));
  std::set<std::string> objects, ids;
  DROVER_TRY(const std::vector<CheckpointEntry> all, list());
  for (const CheckpointEntry& entry : all) {
    ids.insert(entry.id);
    for (const StoredFile& file : entry.manifest.files) {
      auto needed = i.objects->needed_by(file);
      if (needed) objects.insert(needed->begin(), needed->end());
      else if (entry.status == CheckpointStatus::quarantined) objects.insert(file.sha256);  // damaged, and known to be
      else return std::unexpected(std::move(needed).error().with(fmt::format("checkpoint {}", entry.number)).advise("drover ckpt verify first: nothing is collected while it is not known what is needed"));
    }
  }
  std::uint64_t bytes = 0;
  const auto sweep = [&](const std::string& folder, const std::set<std::string>& kept) -> Result<void> {
    DROVER_TRY(const std::vector<std::string> names, i.fs->list(i.directory + "/" + folder));
    for (const std::string& name : names) {
      if (kept.contains(name)) continue;
      const std::string path = i.directory + "/" + folder + "/" + name;
      if (const auto stat = i.fs->stat(path)) bytes += stat->size_bytes;
      DROVER_CHECK(i.remove(path));
    }
    return {};
  };
  DROVER_CHECK(sweep("objects", objects));
  for (const char* folder : {"manifests", "pins", "quarantine"}) DROVER_CHECK(sweep(folder, ids));
  return bytes;
}

// ---- rebuilding ------------------------------------------------------------------------------------------------------------------

Result<std::size_t> CheckpointStoreAccess::rebuild(FileSystem& fs, const std::string& directory, const std::string& vfs) {
  const auto context = [&](Error error) { return std::unexpected(std::move(error).with(fmt::format("checkpoint store '{}'", directory))); };
  const std::string path = directory + "/store.db", manifests = directory + "/manifests";
  auto names = fs.list(manifests);
  if (!names) return context(std::move(names).error());
  struct Found {
    std::string id, text;
    Manifest manifest;
  };
  std::map<std::string, Found> found;
  for (const std::string& name : *names) {
    const auto text = fs.read_file(manifests + "/" + name, kManifestBytesMax);
    if (!text || hex_of(sha256_of(*text)) != name) continue;  // damaged: it can name nothing
    auto manifest = parse_manifest(*text);
    if (manifest) found.emplace(name, Found{name, *text, std::move(*manifest)});
  }
  // Parents before children; among those by epoch and step, which only grow along a lineage.
  std::vector<const Found*> order;
  std::set<std::string> placed;
  std::vector<const Found*> open;
  for (const auto& [id, one] : found) open.push_back(&one);
  std::ranges::sort(open, [](const Found* a, const Found* b) { return std::tie(a->manifest.epoch, a->manifest.step, a->id) < std::tie(b->manifest.epoch, b->manifest.step, b->id); });
  while (!open.empty()) {
    const std::size_t before = open.size();
    for (auto it = open.begin(); it != open.end();) {
      const std::string& parent = (*it)->manifest.parent;
      if (!parent.empty() && found.contains(parent) && !placed.contains(parent)) {
        ++it;
        continue;
      }
      order.push_back(*it);
      placed.insert((*it)->id);
      it = open.erase(it);
    }
    DROVER_ASSERT(open.size() < before, before);  // ids are hashes over the parent's id: there is no ring
  }
  DROVER_TRY(const bool there, fs.exists(path));
  if (there) {
    int number = 1;
    for (;; ++number) {
      DROVER_TRY(const bool taken, fs.exists(fmt::format("{}.broken-{}", path, number)));
      if (!taken) break;
    }
    for (const char* suffix : {"-wal", "-shm"}) {
      DROVER_TRY(const bool side, fs.exists(path + suffix));
      if (side) DROVER_CHECK(fs.rename(path + suffix, fmt::format("{}.broken-{}{}", path, number, suffix)));
    }
    DROVER_CHECK(fs.rename(path, fmt::format("{}.broken-{}", path, number)));
    DROVER_CHECK(fs.sync_directory(directory));
  }
  // Built aside and renamed, so that a crash leaves either none or a whole one.
  const std::string fresh = directory + "/store.db.new";
  for (const char* suffix : {"", "-wal", "-shm", "-journal"}) (void)fs.unlink(fresh + suffix);
  {
    CheckpointStore::Impl impl;
    impl.fs = &fs;
    impl.directory = directory;
    impl.objects.emplace(fs, directory + "/objects");
    auto opened = Database::open(fresh, DatabaseMode::create_new, vfs, kBusyMs);
    if (!opened) return context(std::move(opened).error());
    impl.database = std::move(*opened);
    DROVER_CHECK(impl.database.execute("PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL"));
    DROVER_TRY(Transaction transaction, Transaction::begin(impl.database));
    DROVER_CHECK(impl.database.execute(kSchema));
    DROVER_CHECK(impl.database.execute(fmt::format("PRAGMA application_id={}; PRAGMA user_version={}", kApplicationId, kSchemaVersion).c_str()));
    for (const Found* one : order) {
      DROVER_TRY(Statement lineage, impl.database.prepare("INSERT INTO lineage VALUES(?1, ?2, 0, '') ON CONFLICT(name) DO UPDATE SET epoch = max(epoch, ?2)"));
      DROVER_CHECK(lineage.bind(1, one->manifest.lineage).bind(2, one->manifest.epoch).run());
      DROVER_TRY(const bool pinned, fs.exists(directory + "/pins/" + one->id));
      const auto reason = fs.read_file(directory + "/quarantine/" + one->id);
      std::string damage;
      for (const StoredFile& file : one->manifest.files)
        if (auto good = impl.check_object(file); !good && damage.empty()) damage = good.error().what();
      const bool quarantined = reason || !damage.empty();
      if (!reason && !damage.empty()) DROVER_CHECK(impl.put_small("quarantine", one->id, damage));
      // Whether a probe had spoken is not in the manifests: what its lineage went on from was good, the rest waits for a word.
      const bool went_on = std::ranges::any_of(order, [&](const Found* other) { return other->manifest.parent == one->id; });
      DROVER_CHECK(impl.insert(one->manifest, one->id, one->text, quarantined ? CheckpointStatus::quarantined : went_on ? CheckpointStatus::good : CheckpointStatus::verified, pinned, reason ? *reason : damage));
      if (!quarantined && went_on) DROVER_CHECK(impl.set_head(one->manifest.lineage, one->id));
    }
    DROVER_CHECK(transaction.commit());
  }
  DROVER_CHECK(fs.rename(fresh, path));
  DROVER_CHECK(fs.sync_directory(directory));
  return order.size();
}

Result<std::size_t> rebuild_checkpoint_store(const std::string& directory) { return CheckpointStoreAccess::rebuild(posix_file_system(), directory, ""); }

}  // namespace drover
