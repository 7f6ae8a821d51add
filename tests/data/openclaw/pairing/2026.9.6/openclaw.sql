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
INSERT INTO "device_pairing_paired" VALUES('be752168a254bece6d50527421e98bf048ffd35e1c28fce2a42b8e3f1bdd5490','EIEFs9ejwGGXw0f92ecHHw0xMK8ehHkKRLiMRzsC8zk','Reference client','Kitchen <b>& co</b>','linux','Linux','gateway-client','backend',NULL,'operator','["operator"]','["operator.read"]','["operator.read"]',NULL,'{"operator":{"token":"QQ79N-AR9BJHwjLXaYAnNJpvf9xY8ydbrStP0Rxu_BM","role":"operator","scopes":["operator.read"],"createdAtMs":1796097921577}}','owner',NULL,NULL,1796097921577,1796097921577,1796097922612,'connect');
INSERT INTO "device_pairing_paired" VALUES('307970e2b694496d05f2083c35f03caec2ab564eb478dfb12d05691ef377747c','SPmqx-Q_-_hba2PlCTrEdYsKIfg3RZGXVN__Vco8Y_U',NULL,NULL,'linux','Linux','cli','cli',NULL,'operator','["operator"]','["operator.admin","operator.read"]','["operator.admin","operator.read"]',NULL,'{"operator":{"token":"Q2dvgLZbGOGigLPI0ncii4lmDCeXCzCJN7Ao-bAN5Sk","role":"operator","scopes":["operator.admin","operator.read","operator.write"],"createdAtMs":1796097923909}}','owner',NULL,NULL,1796097923909,1796097923909,1796097924012,'connect');
INSERT INTO "device_pairing_paired" VALUES('67acbde4f2875b7bc0f91709120ca107cbb631cdba334a646163efcf55a756ee','sa63DCXjM57dUHg7GB8gsQMWmh16oEezndiK8jnynPQ',NULL,NULL,'linux','Linux','node-host','node',NULL,'node','["node"]','[]','[]',NULL,'{"node":{"token":"aQqrba_Cd0xgYFjXMKMtc60QfW2w-WJQ9i7U9vA35_Y","role":"node","scopes":[],"createdAtMs":1796097925289}}','owner',NULL,'{"requestId":"71a2a0b5-c29c-40ba-9c9d-15323cbd7d20","revision":"56c0e23d-c89b-4797-bec0-99ce84c633df","platform":"linux","version":"2026.9.6","deviceFamily":"Linux","caps":["system"],"commands":["system.run","system.which"],"ts":1796097925388}',1796097925289,1796097925289,1796097925375,'connect');
INSERT INTO "device_pairing_paired" VALUES('9ac565bc7d0cf5bbaaef18770e7202856969480dc30d5c0a2bcc42a011a08e03','1BQpjP6udJ3EQIlUPiiRjiMS5iRwkd5rSs5MAM7AYBo',NULL,NULL,'linux','Linux','node-host','node',NULL,'node','["operator","node"]','["operator.read"]','["operator.read"]',NULL,'{"operator":{"token":"IatqflRimVoeNCOFKjZ0kYWE8paFbEosfyETDwBj_xM","role":"operator","scopes":["operator.read"],"createdAtMs":1796097926602},"node":{"token":"isPM8KuxeKcmKhB7g_hYjJIAXbzFqS8zvEY9dewtQ3o","role":"node","scopes":[],"createdAtMs":1796097928030}}','owner',NULL,'{"requestId":"ae604c2f-9c91-4623-906b-bdf964111f48","revision":"2aa6cbd2-5d61-4052-8ec4-48a268b76573","platform":"linux","version":"2026.9.6","deviceFamily":"Linux","caps":["system"],"commands":["system.run","system.which"],"ts":1796097928139}',1796097926602,1796097928030,1796097928128,'connect');
INSERT INTO "device_pairing_paired" VALUES('0d4e524c7e85d86574ce8d0c7a86e4f5ebc8bd58d0f80b55d26734a77524fa8d','s3E79jaynk30c_3Af5sgzDl3_yRxujB2ecNForCB0W0','Reference client',NULL,'linux','Linux','gateway-client','backend',NULL,'operator','["operator"]','["operator.read"]','["operator.read"]',NULL,'{"operator":{"token":"8JyjYoe_aO1DR2xMA1hc9dNxyK2tS5YLo0w310zed6I","role":"operator","scopes":["operator.read"],"createdAtMs":1796097929359,"revokedAtMs":1796097930610}}','owner',NULL,NULL,1796097929359,1796097929359,1796097929462,'connect');
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
INSERT INTO "device_pairing_pending" VALUES('70832503-b2af-41d5-82bf-ff825eee564f','1d1a32038d45af3d8caf724f4e752eff8383898e80df0f2cbf65d6f4111f3f53','KOEAYwlPfpzWUjNCq-qJhZvPTRnQaUE7lxMZBNVcNsY','Reference client','linux','Linux','gateway-client','backend',NULL,'operator','["operator"]','["operator.read"]',NULL,0,0,1796097931820,NULL);
CREATE TABLE schema_meta (
  meta_key TEXT NOT NULL PRIMARY KEY,
  role TEXT NOT NULL,
  schema_version INTEGER NOT NULL,
  agent_id TEXT,
  app_version TEXT,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT;
INSERT INTO "schema_meta" VALUES('primary','global',18,NULL,'2026.9.6',1796097909288,1796097909288);
INSERT INTO "schema_meta" VALUES('state-migrations','global',3,NULL,'2026.9.6
3
2026-09-23T16:33:12.144Z
hf_M-WosNiy1ztA76a10E1SGY-GFDs2TvQySm6fwA9Y
hf_M-WosNiy1ztA76a10E1SGY-GFDs2TvQySm6fwA9Y
e0ddf8d6deb0658aae6ab5c8cc73b46ccc8cdbc92132e5309ebc69e3e6c905e5',1796097910753,1796097910872);
INSERT INTO "schema_meta" VALUES('startup-migrations','global',3,NULL,'2026.9.6
3
2026-09-23T16:33:12.144Z
hf_M-WosNiy1ztA76a10E1SGY-GFDs2TvQySm6fwA9Y
hf_M-WosNiy1ztA76a10E1SGY-GFDs2TvQySm6fwA9Y
e0ddf8d6deb0658aae6ab5c8cc73b46ccc8cdbc92132e5309ebc69e3e6c905e5',1796097910872,1796097910872);
