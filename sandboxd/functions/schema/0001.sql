-- Version 1. A file here is never changed once it was released: a new one, with the next number,
-- changes what it made.

PRAGMA application_id = 0x53424631;

CREATE TABLE meta (
  name TEXT PRIMARY KEY,
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- What each tenant has. The triggers below keep it, so that nothing has to be counted.
CREATE TABLE usage (
  tenant INTEGER PRIMARY KEY,
  functions INTEGER NOT NULL DEFAULT 0,
  function_bytes INTEGER NOT NULL DEFAULT 0,
  executions INTEGER NOT NULL DEFAULT 0,
  execution_bytes INTEGER NOT NULL DEFAULT 0
) STRICT;

-- What is long stands last: a list does not read the pages it is on.
CREATE TABLE functions (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant INTEGER NOT NULL,
  space TEXT NOT NULL,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  language TEXT NOT NULL,
  version TEXT NOT NULL,
  environment TEXT NOT NULL,
  revision INTEGER NOT NULL,
  created_ns INTEGER NOT NULL,
  updated_ns INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  metadata TEXT NOT NULL,
  definition TEXT NOT NULL,
  context BLOB,
  code BLOB NOT NULL,
  UNIQUE (tenant, space, name)
) STRICT;

CREATE TABLE function_files (
  function_id INTEGER NOT NULL REFERENCES functions ON DELETE CASCADE,
  path TEXT NOT NULL,
  mode INTEGER NOT NULL,
  sha256 TEXT NOT NULL CHECK (length(sha256) = 64),
  bytes INTEGER NOT NULL,
  UNIQUE (function_id, path)
) STRICT;

CREATE INDEX function_files_by_content ON function_files (sha256);

CREATE TABLE executions (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  tenant INTEGER NOT NULL,
  space TEXT NOT NULL,
  function TEXT NOT NULL,
  function_id INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('pending', 'running', 'ended')),
  end_reason TEXT NOT NULL CHECK ((end_reason <> '') = (status = 'ended')),
  created_ns INTEGER NOT NULL,
  submitted_ns INTEGER NOT NULL,
  started_ns INTEGER NOT NULL,
  ended_ns INTEGER NOT NULL,
  key TEXT NOT NULL,
  key_id INTEGER NOT NULL,
  job_status TEXT NOT NULL,
  exit_code INTEGER,
  signal INTEGER,
  message TEXT NOT NULL,
  cpu_time_ns INTEGER NOT NULL,
  wall_time_ns INTEGER NOT NULL,
  memory_bytes INTEGER NOT NULL,
  log_bytes INTEGER NOT NULL,
  log_truncated INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  limits TEXT NOT NULL,
  metadata TEXT NOT NULL
) STRICT;

-- Each ends with the sequence, as every index does: lists come out of it in their order.
CREATE INDEX executions_by_tenant ON executions (tenant);
CREATE INDEX executions_by_space ON executions (tenant, space);
CREATE INDEX executions_by_name ON executions (tenant, space, function);
CREATE INDEX executions_by_function ON executions (function_id);
CREATE INDEX executions_by_key ON executions (key_id) WHERE key_id <> 0;
CREATE INDEX executions_unfinished ON executions (tenant, status) WHERE status <> 'ended';
CREATE INDEX executions_by_end ON executions (tenant, ended_ns) WHERE status = 'ended';

CREATE TABLE execution_data (
  sequence INTEGER PRIMARY KEY REFERENCES executions ON DELETE CASCADE,
  args BLOB NOT NULL,
  stdin BLOB NOT NULL,
  error BLOB,
  result BLOB,
  log BLOB NOT NULL
) STRICT;

CREATE TABLE execution_files (
  sequence INTEGER NOT NULL REFERENCES executions ON DELETE CASCADE,
  role TEXT NOT NULL CHECK (role IN ('input', 'output')),
  id TEXT NOT NULL,
  path TEXT NOT NULL,
  sha256 TEXT NOT NULL CHECK (length(sha256) = 64),
  bytes INTEGER NOT NULL,
  UNIQUE (sequence, role, id)
) STRICT;

CREATE INDEX execution_files_by_content ON execution_files (sha256);

-- A key outlives its function, so that what it was used for stays in its reach.
CREATE TABLE keys (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant INTEGER NOT NULL,
  name TEXT NOT NULL,
  role TEXT NOT NULL,
  space TEXT,
  function_id INTEGER NOT NULL,
  function_space TEXT NOT NULL,
  function_name TEXT NOT NULL,
  max_memory_bytes INTEGER NOT NULL,
  max_time_ns INTEGER NOT NULL,
  max_executions INTEGER NOT NULL,
  created_ns INTEGER NOT NULL,
  hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
  UNIQUE (tenant, name)
) STRICT;

CREATE INDEX keys_by_function ON keys (function_id);

CREATE TRIGGER function_added AFTER INSERT ON functions BEGIN
  INSERT INTO usage (tenant, functions, function_bytes) VALUES (new.tenant, 1, new.bytes)
    ON CONFLICT (tenant) DO UPDATE
    SET functions = functions + 1, function_bytes = function_bytes + new.bytes;
END;

CREATE TRIGGER function_changed AFTER UPDATE OF bytes ON functions BEGIN
  UPDATE usage SET function_bytes = function_bytes + new.bytes - old.bytes
    WHERE tenant = new.tenant;
END;

CREATE TRIGGER function_removed AFTER DELETE ON functions BEGIN
  UPDATE usage SET functions = functions - 1, function_bytes = function_bytes - old.bytes
    WHERE tenant = old.tenant;
END;

CREATE TRIGGER execution_added AFTER INSERT ON executions BEGIN
  INSERT INTO usage (tenant, executions, execution_bytes) VALUES (new.tenant, 1, new.bytes)
    ON CONFLICT (tenant) DO UPDATE
    SET executions = executions + 1, execution_bytes = execution_bytes + new.bytes;
END;

CREATE TRIGGER execution_changed AFTER UPDATE OF bytes ON executions BEGIN
  UPDATE usage SET execution_bytes = execution_bytes + new.bytes - old.bytes
    WHERE tenant = new.tenant;
END;

CREATE TRIGGER execution_removed AFTER DELETE ON executions BEGIN
  UPDATE usage SET executions = executions - 1, execution_bytes = execution_bytes - old.bytes
    WHERE tenant = old.tenant;
END;
