-- Write a gateway's reports of refused clients. Refusals are not part of history. A device that is
-- paired or pending has its own key, with one entry for attempts that proved possession of its key
-- and one for attempts that only claimed its id. All other clients get a row in the list of their
-- address, so that a client that invents device ids displaces only rows of its own address.
--
-- KEYS  1 paired devices  2 devices with a request  3 refused devices by time (sorted sets)
--       4 addresses by time (sorted set)  5 rows of each address (hash)  6 version (counter)
--       7.. for each report, the key of its device; KEYS[5] if it names none
-- ARGV  1 boot id of the gateway  2 time its heartbeat was written, ms  3 retention, ms
--       4 pause between attempts that starts a new run, ms
--       5 max. rows of an address  6 max. addresses
--       7.. each report, as packed by services/approval/storage/heartbeats/refusals.py
--
-- Entries and rows are maps; the names of their fields are in
-- services/approval/storage/heartbeats/refusals.py.

local gateway, now = ARGV[1], tonumber(ARGV[2])
local kept, apart = tonumber(ARGV[3]), tonumber(ARGV[4])
local rows_most, addresses_most = tonumber(ARGV[5]), tonumber(ARGV[6])

local reports, devices = {}, {}
for i = 7, #ARGV do
  reports[#reports + 1] = cmsgpack.unpack(ARGV[i])
  devices[#devices + 1] = reports[#reports].device
end

local function failed(reply) return type(reply) == 'table' and reply.err ~= nil end

-- Unpack a msgpack table; false if the value is not one.
local function unpacked(value)
  local ok, found = pcall(cmsgpack.unpack, value)
  return ok and type(found) == 'table' and found
end

-- Whether a value is a valid entry or row.
local function sound(one)
  return type(one) == 'table' and type(one.at) == 'number' and type(one.first) == 'number'
    and type(one.count) == 'number' and type(one.told) == 'number'
end

-- Keys of a wrong type are recreated; nothing stored here is indispensable.
local function scores(key)
  local found = redis.pcall('ZMSCORE', key, unpack(devices))
  return failed(found) and {} or found
end

local paired, pending = scores(KEYS[1]), scores(KEYS[2])
for i = 3, 4 do
  if failed(redis.pcall('ZCARD', KEYS[i])) then redis.call('DEL', KEYS[i]) end
end
if failed(redis.pcall('HGET', KEYS[5], '')) then redis.call('DEL', KEYS[5]) end
local version = redis.pcall('GET', KEYS[6])
if failed(version) or (version and not string.match(version, '^%d+$')) then
  redis.call('SET', KEYS[6], string.format('%.0f', now))
end

local function fresh(one)
  return {
    device = one.device, proven = one.proven, reason = one.reason, undecided = one.undecided,
    at = now - one.age, first = now - one.first_age, count = one.count, address = one.address,
    replica = gateway, client = one.client, name = one.name, detail = one.detail,
    number = one.number, told = one.count,
  }
end

-- Merge a report into a stored entry. A run of attempts at one gateway counts once, however often
-- it is reported.
local function merged(held, one)
  local new = fresh(one)
  if not held then return new end
  local again = held.replica == gateway and held.number == one.number
  if held.reason ~= new.reason or (not again and new.first - held.at > apart) then
    if new.at >= held.at then return new end
    return held
  end
  if again and one.count <= held.told then return held end
  local more = one.count - one.confirmed
  if again then more = one.count - held.told end
  new.count = held.count + more
  new.first = math.min(held.first, new.first)
  if new.at < held.at then
    held.count, held.first = new.count, new.first
    return held
  end
  return new
end

-- The rows of each address in the reports are read and written once.
local rows_of, sources = {}, {}

for i, one in ipairs(reports) do
  if one.device ~= '' and (paired[i] or pending[i]) then
    local key, place = KEYS[6 + i], one.proven and 'proven' or 'claimed'
    local found = redis.pcall('GET', key)
    local entries = type(found) == 'string' and unpacked(found) or {}
    for name, entry in pairs(entries) do
      if not sound(entry) then entries[name] = nil end
    end
    entries[place] = merged(entries[place], one)
    redis.call('SET', key, cmsgpack.pack(entries), 'PX', kept)
    redis.call('ZADD', KEYS[3], 'GT', string.format('%.0f', now - one.age), one.device)
  else
    if not rows_of[one.source] then
      local found = redis.call('HGET', KEYS[5], one.source)
      rows_of[one.source] = {}
      for _, row in ipairs(found and unpacked(found) or {}) do
        if sound(row) then table.insert(rows_of[one.source], row) end
      end
      sources[#sources + 1] = one.source
    end
    local rows = {false}
    for _, row in ipairs(rows_of[one.source]) do
      local same = row.device == one.device and row.proven == one.proven
      if one.device == '' then same = same and row.reason == one.reason end
      if same then
        rows[1] = merged(row, one)
      elseif #rows < rows_most then
        rows[#rows + 1] = row
      end
    end
    rows[1] = rows[1] or fresh(one)
    rows_of[one.source] = rows
    redis.call('ZADD', KEYS[4], 'GT', string.format('%.0f', now - one.age), one.source)
  end
end

for _, source in ipairs(sources) do
  redis.call('HSET', KEYS[5], source, cmsgpack.pack(rows_of[source]))
end

local old = string.format('%.0f', now - kept)
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', old)
local over = redis.call('ZCARD', KEYS[4]) - addresses_most
local gone = over > 0 and redis.call('ZRANGE', KEYS[4], 0, over - 1) or {}
for _, source in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', old)) do
  gone[#gone + 1] = source
end
if #gone > 0 then
  redis.call('ZREM', KEYS[4], unpack(gone))
  redis.call('HDEL', KEYS[5], unpack(gone))
end
for i = 3, 5 do redis.call('PEXPIRE', KEYS[i], kept) end
return redis.call('INCR', KEYS[6])
