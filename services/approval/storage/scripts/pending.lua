-- Pending requests: how many each holder has, and which one gives way to a new request. Prepended to
-- commit.lua, with the names of the keys:
--
-- NAMES  list      sorted set: device ids with a request
--        address   prefix of the sorted sets of the device ids of one address (IPv6: one /64), oldest
--                  first, paired devices last
--        holders   sorted set: IPv4 addresses and IPv6 /48s, by their number of requests
--        within    prefix of the sorted sets of the /56s of a /48 and of the /64s of a /56, by number
--        reindex   marker: the indexes are incomplete and are rebuilt from the records
--        device, seen, refused, request   prefixes of a device's keys, and of a request's note
--
-- A path lists the holders of a request, the largest first: {address}, or {/48, /56, /64}.

local CORRECTIONS = 100 -- index entries without a request that one commit removes

-- Set the number of requests of one holder on a path, and those of the larger ones as sums.
local function set_count(path, level, count)
  for i = level, 1, -1 do
    local key = i > 1 and NAMES.within .. path[i - 1] or NAMES.holders
    redis.call(count > 0 and 'ZADD' or 'ZREM', key, unpack(count > 0 and {count, path[i]} or {path[i]}))
    count = 0
    local counts = i > 1 and redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') or {}
    for j = 2, #counts, 2 do count = count + tonumber(counts[j]) end
  end
end

-- Count the requests of the address at the end of a path.
local function count_requests(path)
  set_count(path, #path, redis.call('ZCARD', NAMES.address .. path[#path]))
end

-- Return the first of the keys that count a path which is not a sorted set.
local function broken_count(path)
  local keys = {NAMES.list, NAMES.holders, NAMES.address .. path[#path]}
  for i = 1, #path - 1 do keys[#keys + 1] = NAMES.within .. path[i] end
  for _, key in ipairs(keys) do
    if failed(redis.pcall('ZCARD', key)) then return key end
  end
end

-- Return the member with the highest score (`own`, if no other is higher), its score, and own's.
local function largest(key, own)
  local first = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')
  local most, held = tonumber(first[2] or 0), tonumber(own and redis.call('ZSCORE', key, own) or 0)
  return held == most and own or first[1], most, held
end

-- Return the path to the address that gives way to a new request of `own`, or nil if none does. The
-- path ends early, at a holder without requests, if its counts are wrong.
local function path_to_displace(own, listed)
  local name, most, held = largest(NAMES.holders, own[1])
  if redis.call('ZCARD', NAMES.holders) * most < listed then
    redis.call('SET', NAMES.reindex, '1', 'NX')
  end
  if most < held + 2 then
    if held == 0 then return nil end
    name = own[1]
  end
  local path = {name}
  while string.find(name, '/48$') or string.find(name, '/56$') do
    local key = NAMES.within .. name
    if failed(redis.pcall('ZCARD', key)) then return nil, key end
    name = largest(key, own[#path] == name and own[#path + 1] or nil)
    if not name then break end
    path[#path + 1] = name
  end
  return path
end

-- Return the record of a device and its decoded form if it has a request from this address.
local function read_request(device, address)
  local record = redis.pcall('GET', NAMES.device .. device)
  if failed(record) or not record then return nil end
  local body = string.sub(record, 17)
  local ok, decoded = pcall(cmsgpack.unpack, body)
  if not ok or type(decoded) ~= 'table' or string.byte(body) > 143 then return nil end
  local pending = decoded.pending
  if type(pending) ~= 'table' or pending.limit_key ~= address then return nil end
  for name, kind in pairs({request_id = 'string', role = 'string', roles = 'table',
      scopes = 'table', metadata = 'table'}) do
    if type(pending[name]) ~= kind then return nil end
  end
  return body, decoded
end

-- Return the request that gives way to a new one: nil if there is room, or a table; or else why there
-- is none, `full` or `broken`, and the broken key. `new` is `pending` of the plan.
local function find_displaced(new)
  local own = new.path
  local address = NAMES.address .. own[#own]
  for _ = 1, CORRECTIONS do
    local listed, path, key = redis.call('ZCARD', NAMES.list), nil, nil
    if not redis.call('ZSCORE', address, new.device)
      and redis.call('ZCARD', address) >= new.per_address then
      path = own
    elseif not redis.call('ZSCORE', NAMES.list, new.device) and listed >= new.total then
      path, key = path_to_displace(own, listed)
      if not path then return nil, key and 'broken' or 'full', key end
    else
      return nil
    end
    local holder = path[#path]
    key = NAMES.address .. holder
    local devices = redis.pcall('ZRANGE', key, 0, 1)
    if failed(devices) then return nil, 'broken', key end
    local device = devices[1] ~= new.device and devices[1] or devices[2]
    if device then
      local body, record = read_request(device, holder)
      if body then return {device = device, path = path, body = body, record = record} end
      redis.call('ZREM', key, device)
    end
    set_count(path, #path, redis.call('ZCARD', key))
  end
  return nil, 'full'
end

-- Return a record without its request, whose bytes are cut out: encoding the rest anew could change
-- it, because Lua knows no difference between an empty list and an empty map.
local function without_request(body)
  local fields, at, start, name = string.byte(body) - 128, 1, nil, nil
  for _ = 1, fields do
    start = at
    at, name = cmsgpack.unpack_one(body, at)
    at = cmsgpack.unpack_one(body, at)
    if at < 0 then at = #body end
    if name == 'pending' then
      return string.char(127 + fields) .. string.sub(body, 2, start) .. string.sub(body, at + 1)
    end
  end
end

-- Return the change and the audit entry of a displaced request, encoded.
local function displaced_change(found, new)
  local pending, at = found.record.pending, string.format('%.0f', new.at_ms)
  local function list(items)
    local encoded = {}
    for i, item in ipairs(items) do encoded[i] = cjson.encode(item) end
    return '[' .. table.concat(encoded, ',') .. ']'
  end
  local change = {'changed', {0, ''}, '', found.device, 'displaced', new.at_ms, {}, pending.request_id}
  local entry = '{"action":"displaced","deviceId":' .. cjson.encode(found.device)
    .. ',"actor":"limit","atMs":' .. at .. ',"requestId":' .. cjson.encode(pending.request_id)
    .. ',"role":' .. cjson.encode(pending.role) .. ',"roles":' .. list(pending.roles)
    .. ',"scopes":' .. list(pending.scopes)
    .. ',"address":' .. cjson.encode(pending.metadata.address or '') .. '}'
  return cmsgpack.pack(change), entry
end

-- End a displaced request: its record, its note and its places in the indexes.
local function displace(found, new)
  local device = found.device
  if found.record.pairing then
    redis.call('SET', NAMES.device .. device, new.version .. without_request(found.body))
  else
    redis.call('DEL', NAMES.device .. device, NAMES.seen .. device, NAMES.refused .. device)
  end
  redis.call('ZREM', NAMES.list, device)
  redis.call('ZREM', NAMES.address .. found.path[#found.path], device)
  redis.call('SET', NAMES.request .. found.record.pending.request_id,
    cmsgpack.pack({device_id = device, state = 'displaced', at_ms = new.at_ms}), 'PX', new.kept_ms)
end

