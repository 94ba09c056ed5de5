PRAGMA application_id = 1396852273;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE execution_data (
  sequence INTEGER PRIMARY KEY REFERENCES executions ON DELETE CASCADE,
  args BLOB NOT NULL,
  stdin BLOB NOT NULL,
  error BLOB,
  result BLOB,
  log BLOB NOT NULL
) STRICT;
INSERT INTO "execution_data" VALUES(1,X'5B315D',X'',NULL,NULL,X'');
INSERT INTO "execution_data" VALUES(2,X'5B315D',X'',NULL,NULL,X'');
INSERT INTO "execution_data" VALUES(3,X'5B315D',X'',NULL,NULL,X'');
INSERT INTO "execution_data" VALUES(4,X'5B315D',X'',X'7B2274797065223A2245222C226D657373616765223A226D222C2274726163656261636B223A22222C226B696E64223A22657863657074696F6E227D',X'7B2261223A20317D',X'006C6F67');
CREATE TABLE execution_files (
  sequence INTEGER NOT NULL REFERENCES executions ON DELETE CASCADE,
  role TEXT NOT NULL CHECK (role IN ('input', 'output')),
  id TEXT NOT NULL,
  path TEXT NOT NULL,
  sha256 TEXT NOT NULL CHECK (length(sha256) = 64),
  bytes INTEGER NOT NULL,
  UNIQUE (sequence, role, id)
) STRICT;
INSERT INTO "execution_files" VALUES(1,'input','in','in.txt','3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7',4);
INSERT INTO "execution_files" VALUES(2,'input','in','in.txt','3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7',4);
INSERT INTO "execution_files" VALUES(3,'input','in','in.txt','3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7',4);
INSERT INTO "execution_files" VALUES(4,'input','in','in.txt','3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7',4);
INSERT INTO "execution_files" VALUES(4,'output','out','out.txt','3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7',4);
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
INSERT INTO "executions" VALUES(1,'execution-0',1000,'main','hello',1,0,'pending','',1795355578950549685,0,0,0,'',0,'',NULL,NULL,'',0,0,0,0,0,521,'{}','{}');
INSERT INTO "executions" VALUES(2,'execution-1',1000,'main','hello',1,0,'pending','',1795355578950549685,1795355578950549685,0,0,'',0,'',NULL,NULL,'',0,0,0,0,0,521,'{}','{}');
INSERT INTO "executions" VALUES(3,'execution-2',1000,'main','hello',1,0,'running','',1795355578950549685,0,1795355578950549685,0,'',0,'',NULL,NULL,'',0,0,0,0,0,521,'{}','{}');
INSERT INTO "executions" VALUES(4,'execution-3',1000,'main','hello',1,0,'ended','normal',1795355578950549685,0,0,1795355578950549685,'',0,'',NULL,NULL,'',0,0,0,4,0,597,'{}','{}');
CREATE TABLE function_files (
  function_id INTEGER NOT NULL REFERENCES functions ON DELETE CASCADE,
  path TEXT NOT NULL,
  mode INTEGER NOT NULL,
  sha256 TEXT NOT NULL CHECK (length(sha256) = 64),
  bytes INTEGER NOT NULL,
  UNIQUE (function_id, path)
) STRICT;
INSERT INTO "function_files" VALUES(1,'data',493,'3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7',4);
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
INSERT INTO "functions" VALUES(1,1000,'main','hello','program','','','',1,1795355578950549685,1795355578950549685,221,'{"title":"T"}','{"command":["./run"],"env":{"A":"1"},"inputs":[{"id":"in","path":"in.txt","required":true}],"limits":{}}',X'017CBEDA337C809DDFBDABDB496AE6AF687841E414652D9642645E72B56F58DC5F66C9D4C53EFB22444409DCE901C79DA82613E58F59FF71888B4C',X'646566206D61696E28617267732C20636F6E74657874293A0A2020202072657475726E20617267730A');
INSERT INTO "functions" VALUES(2,1000,'other','hello','python','','','',1,1795355578950549685,1795355578950549685,43,'{}','{"limits":{}}',NULL,X'646566206D61696E28617267732C20636F6E74657874293A202E2E2E');
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
INSERT INTO "keys" VALUES(1,1000,'k','run',NULL,1,'','',0,5,0,0,X'0AA20366177BB4B7069DC81A52EF34C8693A2A64125A1ECC88ECEF417130901B');
CREATE TABLE meta (
  name TEXT PRIMARY KEY,
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "meta" VALUES('secret.key',X'06C0E33A1CBCC6647F3A6BEB5E728E3662D88291A3EF8F2B6294D13417DB56CD');
CREATE TABLE usage (
  tenant INTEGER PRIMARY KEY,
  functions INTEGER NOT NULL DEFAULT 0,
  function_bytes INTEGER NOT NULL DEFAULT 0,
  executions INTEGER NOT NULL DEFAULT 0,
  execution_bytes INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO "usage" VALUES(1000,2,264,4,2160);
CREATE INDEX function_files_by_content ON function_files (sha256);
CREATE INDEX executions_by_tenant ON executions (tenant);
CREATE INDEX executions_by_space ON executions (tenant, space);
CREATE INDEX executions_by_name ON executions (tenant, space, function);
CREATE INDEX executions_by_function ON executions (function_id);
CREATE INDEX executions_by_key ON executions (key_id) WHERE key_id <> 0;
CREATE INDEX executions_unfinished ON executions (tenant, status) WHERE status <> 'ended';
CREATE INDEX executions_by_end ON executions (tenant, ended_ns) WHERE status = 'ended';
CREATE INDEX execution_files_by_content ON execution_files (sha256);
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
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('functions',2);
INSERT INTO "sqlite_sequence" VALUES('keys',1);
INSERT INTO "sqlite_sequence" VALUES('executions',4);
COMMIT;
