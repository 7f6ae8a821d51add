PRAGMA user_version = 18;
CREATE TABLE device_pairing_paired (
  device_id TEXT NOT NULL PRIMARY KEY,
  public_key TEXT NOT NULL,
  display_name TEXT,
  operator_label TEXT,
  platform TEXT,
  device_family TEXT,
  client_id TEXT,
  client_mode TEXT,
  browser_origin TEXT,
  role TEXT,
  roles_json TEXT,
  scopes_json TEXT,
  approved_scopes_json TEXT,
  remote_ip TEXT,
  tokens_json TEXT,
  approved_via TEXT,
  node_surface_json TEXT,
  pending_node_surface_json TEXT,
  created_at_ms INTEGER NOT NULL,
  approved_at_ms INTEGER NOT NULL,
  last_seen_at_ms INTEGER,
  last_seen_reason TEXT
) STRICT;
INSERT INTO "device_pairing_paired" VALUES('92907a8a4cd38df79e06ef25cf7bb046b66839601010d5c2242af3167252bab2','_V9gqgdbEDR6PPyRPDYw3ZSoY_0fqbD-xOuZ9C6WWYY','Reference client','Kitchen <b>& co</b>','linux','Linux','gateway-client','backend',NULL,'operator','["operator"]','["operator.read"]','["operator.read"]',NULL,'{"operator":{"token":"xeQLpPLSHuoq0qzF93h_SWEZaPzA2wLs5WHvoPqRlzo","role":"operator","scopes":["operator.read"],"createdAtMs":1796097580212}}','owner',NULL,NULL,1796097580212,1796097580212,1796097580942,'connect');
INSERT INTO "device_pairing_paired" VALUES('2fd7406ef71d4eb9cd78ec69e329fa14608567c9cbbf334643e7a023c59fd58f','LoPsY51740PZwG_3KPKw1RnFv9RTckFfzDw0Ctwg6KE',NULL,NULL,'linux','Linux','cli','cli',NULL,'operator','["operator"]','["operator.admin","operator.read"]','["operator.admin","operator.read"]',NULL,'{"operator":{"token":"t6JGjFE9-V0gyA6nRMmXRvrYPVQUzYjv1mn4zjnMa7M","role":"operator","scopes":["operator.admin","operator.read","operator.write"],"createdAtMs":1796097582066}}','owner',NULL,NULL,1796097582066,1796097582066,1796097582153,'connect');
INSERT INTO "device_pairing_paired" VALUES('09a06533d5215ac190a0cc01d33f1d51f69f215646d14062b4126d585d123937','zCUNYfmnXiOVziOyr0yF_0Fp1wKfMcCkFBxlNiRVAb8',NULL,NULL,'linux','Linux','node-host','node',NULL,'node','["node"]','[]','[]',NULL,'{"node":{"token":"ZnkAsdI6Rjl8dAfG9nC6TY935YcUZnIhZiMpIljhFWo","role":"node","scopes":[],"createdAtMs":1796097583278}}','owner',NULL,'{"requestId":"f30fd062-ad59-494c-a791-5884524ba186","revision":"395b09d6-ff0a-4ee2-97ff-53269d0813ec","platform":"linux","version":"2026.9.6","deviceFamily":"Linux","caps":["system"],"commands":["system.run","system.which"],"ts":1796097583384}',1796097583278,1796097583278,1796097583369,'connect');
INSERT INTO "device_pairing_paired" VALUES('38a96c8abd1b57cf1cdbd303ff02895b15b09870315a20739f840990a8102067','bBqSTmu4Ze0WGgnmCxPL-wCsOnHoyqgXurIBWz4zJj8',NULL,NULL,'linux','Linux','node-host','node',NULL,'node','["operator","node"]','["operator.read"]','["operator.read"]',NULL,'{"operator":{"token":"LAiLO2Fy2Nh4DwC6gTjQnJ3Mgx8X3mj0aFnJdgBemOE","role":"operator","scopes":["operator.read"],"createdAtMs":1796097584468},"node":{"token":"z_LKFwGRG-wQL4hCTBS9Vd2d4UJkEvyny-fS7CwRjfE","role":"node","scopes":[],"createdAtMs":1796097585694}}','owner',NULL,'{"requestId":"c6115b97-5334-4346-92d3-db03bbe99068","revision":"ed78b7f2-5269-4a1b-8fad-745879fc9a22","platform":"linux","version":"2026.9.6","deviceFamily":"Linux","caps":["system"],"commands":["system.run","system.which"],"ts":1796097585788}',1796097584468,1796097585694,1796097585772,'connect');
INSERT INTO "device_pairing_paired" VALUES('9da616b0f0f5d46fad884d72ebd583f83dbae22a53cbc6877fe2e358a3833286','a2cHAeCbgpSht-zFGG-hVn2gd5gT0vNHYraKQxqw-40','Reference client',NULL,'linux','Linux','gateway-client','backend',NULL,'operator','["operator"]','["operator.read"]','["operator.read"]',NULL,'{"operator":{"token":"TSImHIcTG02UUach1lSGvXqkewOaGk7htw0ZWypvWLU","role":"operator","scopes":["operator.read"],"createdAtMs":1796097586954,"revokedAtMs":1796097588184}}','owner',NULL,NULL,1796097586954,1796097586954,1796097587055,'connect');
CREATE TABLE device_pairing_pending (
  request_id TEXT NOT NULL PRIMARY KEY,
  device_id TEXT NOT NULL,
  public_key TEXT NOT NULL,
  display_name TEXT,
  platform TEXT,
  device_family TEXT,
  client_id TEXT,
  client_mode TEXT,
  browser_origin TEXT,
  role TEXT,
  roles_json TEXT,
  scopes_json TEXT,
  remote_ip TEXT,
  silent INTEGER,
  is_repair INTEGER,
  ts INTEGER NOT NULL,
  refreshed_at_ms INTEGER
) STRICT;
INSERT INTO "device_pairing_pending" VALUES('d3eb670f-fb6d-4778-b53a-4b744b0e959b','ed100257a1d64df4908040430cebecb5100c8b85bad31b36493485b0fc4a7424','aR6x03ppvENXmqwtLDn6Ov5Evio9ZYi_dwxJ7Y6GMQg','Reference client','linux','Linux','gateway-client','backend',NULL,'operator','["operator"]','["operator.read"]',NULL,0,0,1796097589444,NULL);
CREATE TABLE schema_meta (
  meta_key TEXT NOT NULL PRIMARY KEY,
  role TEXT NOT NULL,
  schema_version INTEGER NOT NULL,
  agent_id TEXT,
  app_version TEXT,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT;
INSERT INTO "schema_meta" VALUES('primary','global',18,NULL,'2026.9.6',1796097571342,1796097571342);
INSERT INTO "schema_meta" VALUES('state-migrations','global',3,NULL,'2026.9.6
3
2026-09-23T16:33:12.144Z
hf_M-WosNiy1ztA76a10E1SGY-GFDs2TvQySm6fwA9Y
hf_M-WosNiy1ztA76a10E1SGY-GFDs2TvQySm6fwA9Y
3e7cb3e3b9d82a0dfa069b99f5a27820d60ed0078974c8fb8f855b8184dfa883',1796097572626,1796097572718);
INSERT INTO "schema_meta" VALUES('startup-migrations','global',3,NULL,'2026.9.6
3
2026-09-23T16:33:12.144Z
hf_M-WosNiy1ztA76a10E1SGY-GFDs2TvQySm6fwA9Y
hf_M-WosNiy1ztA76a10E1SGY-GFDs2TvQySm6fwA9Y
3e7cb3e3b9d82a0dfa069b99f5a27820d60ed0078974c8fb8f855b8184dfa883',1796097572718,1796097572718);
