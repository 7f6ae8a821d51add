-- Process a gateway's heartbeat atomically. Presence is written first, so that a Redis that no
-- longer accepts writes cannot renew a lease; then head and changes are read. If head and change
-- log are inconsistent, the script returns `broken` and the caller repairs them. Presence keys of a
-- wrong type are recreated, so that they never make a heartbeat fail.
--
-- KEYS  1 the gateway's presence (hash)  2 gateways (sorted set)  3 head  4 change log
--       5 paired devices (sorted set)  6 presence version (counter)
--       7.. last-seen key of each device in the seen list
-- ARGV  1 boot id  2 heartbeat id  3 id of the heartbeat this one builds on (0: full presence)
--       4 connections  5 presence TTL, ms  6 applied number  7 applied tag  8 booted (1 or 0)
--       9 max. changes to return  10 number of joins  11 number of leaves
--       12 the gateway's release (empty: not reported)  13 its uptime, s
--       14 state of its upstream, packed (empty: it has none)
--       15.. number, entry and device id of each connection that joined; then the numbers of those
--       that left; then the seen list, packed: for each device its id, age in ms, reason, address,
--       role of the token used, display name, and client id and platform of a native app (empty
--       where not known)
--
-- Fields of the presence hash: at (heartbeat id it reflects), count, seen (ms), applied (number),
-- version, uptime (s) and upstream where reported; an entry per connection, by its number; `device:<id>` with
-- the device's number of connections.
--
-- Returns {head, now ms, presence at, resync, changes as XRANGE returns them, presence version}, or
-- {"broken", key} if head and change log are inconsistent.

local number, tag = read_history(KEYS[3], KEYS[4])
if not number then return {'broken', tag} end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local beat, base = tonumber(ARGV[2]), tonumber(ARGV[3])
local FIXED = 14 -- number of fixed arguments
local joined, left = tonumber(ARGV[10]), tonumber(ARGV[11])
local moved = false
local at = redis.pcall('HGET', KEYS[1], 'at')
if failed(at) then
  redis.call('DEL', KEYS[1])
  at = '0'
end
at = tonumber(at or '0') or 0

-- Commands are batched: one command per item would block Redis for the time of a full heartbeat.
local MOST = 2000

-- Run a command on words in batches of MOST; `call` gets a range and returns the reply.
local function in_parts(words, call)
  local said = {}
  for from = 1, #words, MOST do
    local part = call(from, math.min(from + MOST - 1, #words))
    if type(part) == 'table' then
      for _, one in ipairs(part) do said[#said + 1] = one end
    end
  end
  return said
end

-- Unpack a msgpack table; nil if the value is not one.
local function unpacked(value)
  local ok, table_ = pcall(cmsgpack.unpack, value)
  if ok and type(table_) == 'table' then return table_ end
end

-- Whether a table is a valid last-seen record.
local function sound(one)
  return type(one.at) == 'number' and type(one.used or {}) == 'table'
    and type(one.named_at or 0) == 'number' and type(one.versioned_at or 0) == 'number'
    and type(one.platforms or {}) == 'table'
end

local function of_presence(command, words)
  return in_parts(words, function(from, to)
    return redis.call(command, KEYS[1], unpack(words, from, to))
  end)
end

-- Update the number of connections of each device.
local function count(changes)
  local devices = {}
  for device in pairs(changes) do devices[#devices + 1] = device end
  table.sort(devices)
  local set, drop = {}, {}
  for i, held in ipairs(of_presence('HMGET', devices)) do
    local here = (tonumber(held or '0') or 0) + changes[devices[i]]
    if here > 0 then
      set[#set + 1] = devices[i]
      set[#set + 1] = string.format('%.0f', here)
    else
      drop[#drop + 1] = devices[i]
    end
  end
  of_presence('HSET', set)
  of_presence('HDEL', drop)
end

if beat > at and (base == 0 or base == at) then
  moved = base == 0 or joined + left > 0
  if base == 0 then redis.call('DEL', KEYS[1]) end
  local changes, numbers, entries, gone = {}, {}, {}, {}
  local function note(device, by)
    device = 'device:' .. device
    changes[device] = (changes[device] or 0) + by
  end
  for i = FIXED + 1, FIXED + 3 * joined, 3 do
    numbers[#numbers + 1] = ARGV[i]
    entries[#entries + 1] = ARGV[i]
    entries[#entries + 1] = ARGV[i + 1]
  end
  for i, held in ipairs(of_presence('HMGET', numbers)) do
    if not held then note(ARGV[FIXED + 3 * i], 1) end
  end
  of_presence('HSET', entries)
  for i = FIXED + 3 * joined + 1, FIXED + 3 * joined + left do gone[#gone + 1] = ARGV[i] end
  for _, held in ipairs(of_presence('HMGET', gone)) do
    local entry = held and unpacked(held)
    if entry and type(entry[2]) == 'string' then note(entry[2], -1) end
  end
  of_presence('HDEL', gone)
  count(changes)
  redis.call('HSET', KEYS[1], 'at', ARGV[2])
  at = beat
end
redis.call('HSET', KEYS[1], 'count', ARGV[4], 'seen', string.format('%.0f', now))
if ARGV[8] == '1' then redis.call('HSET', KEYS[1], 'applied', ARGV[6]) end
if ARGV[12] ~= '' then redis.call('HSET', KEYS[1], 'version', ARGV[12], 'uptime', ARGV[13]) end
if ARGV[14] ~= '' then
  redis.call('HSET', KEYS[1], 'upstream', ARGV[14])
else
  redis.call('HDEL', KEYS[1], 'upstream')
end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
local until_ms = string.format('%.0f', now + tonumber(ARGV[5]))
if failed(redis.pcall('ZADD', KEYS[2], until_ms, ARGV[1])) then
  redis.call('DEL', KEYS[2])
  redis.call('ZADD', KEYS[2], until_ms, ARGV[1])
end
local vanished = redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now))
local version
if moved or vanished > 0 then
  version = redis.pcall('INCR', KEYS[6])
else
  version = redis.pcall('GET', KEYS[6])
  if type(version) ~= 'table' then version = tonumber(version or '0') end
end
if type(version) ~= 'number' then -- invalid: continue with a value that was never returned before
  redis.call('SET', KEYS[6], string.format('%.0f', now))
  version = now
end

if #KEYS > 6 then
  local keys, devices, seen, write = {}, {}, {}, {}
  local told = cmsgpack.unpack(ARGV[FIXED + 3 * joined + left + 1])
  for i, one in ipairs(told) do
    keys[i] = KEYS[6 + i]
    devices[i] = one[1]
  end
  local paired = in_parts(devices, function(from, to)
    local found = redis.pcall('ZMSCORE', KEYS[5], unpack(devices, from, to))
    return failed(found) and {} or found -- with a broken index, only last-seen records are skipped
  end)
  local held = in_parts(keys, function(from, to)
    return redis.call('MGET', unpack(keys, from, to))
  end)
  for i, key in ipairs(keys) do
    if paired[i] then
      local _, age, why, address, role, name, app, platform = unpack(told[i])
      local one = seen[key] or held[i] and unpacked(held[i]) or {at = 0}
      if not sound(one) then one = {at = 0} end
      local when = now - age
      if when >= one.at then
        one.at, one.why, one.address = when, why, address
      end
      if name ~= '' and when >= (one.named_at or 0) then
        one.name, one.named_at = name, when
      end
      if app ~= '' and when >= (one.versioned_at or 0) then
        one.platforms = one.platforms or {}
        one.platforms[app], one.versioned_at = platform, when
      end
      if role ~= '' then
        one.used = one.used or {}
        one.used[role] = math.max(one.used[role] or 0, when)
      end
      seen[key] = one
    end
  end
  for i, key in ipairs(keys) do
    if seen[key] then
      write[#write + 1] = key
      write[#write + 1] = cmsgpack.pack(seen[key])
      seen[key] = nil
    end
  end
  in_parts(write, function(from, to) return redis.call('MSET', unpack(write, from, to)) end)
end

local head = string.format('%.0f:%s', number, tag)
local applied, resync = tonumber(ARGV[6]), 0

if ARGV[8] == '0' or applied > number then
  resync = 1
elseif applied > 0 and applied == number then
  if tag ~= ARGV[7] then resync = 1 end -- read_history has checked that the log ends at the head
elseif applied > 0 then
  local known = redis.call('XRANGE', KEYS[4], ARGV[6] .. '-0', ARGV[6] .. '-0')[1]
  if not known or known[2][2] ~= ARGV[7] then resync = 1 end
elseif number > 0 then
  local first = redis.call('XRANGE', KEYS[4], '-', '+', 'COUNT', 1)[1]
  if not first or first[1] ~= '1-0' then resync = 1 end
end

local changes = {}
if resync == 0 and applied < number then
  changes = redis.call('XRANGE', KEYS[4], string.format('%.0f-0', applied + 1), '+',
    'COUNT', ARGV[9])
end
return {head, now, at, resync, changes, version}
