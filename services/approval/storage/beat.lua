-- One beat of a gateway, answered in one step: its presence is written first, so that a Redis that
-- may no longer be written to answers nothing; then head and changes are read. Where head and change
-- log disagree there is no answer before that is repaired; presence that holds what is not ours is
-- begun anew, for no beat may fail because of it.
--
-- KEYS  1 the gateway's presence (hash)  2 gateways (sorted set)  3 head  4 change log
--       5 paired devices (sorted set)  6 how often presence changed  7.. for each device that was
--       seen, what is known of that
-- ARGV  1 boot id  2 beat id  3 the beat it builds on  4 connections  5 presence ttl, ms
--       6 applied number  7 applied tag  8 booted (1 or 0)  9 most changes
--       10 how many joined  11 how many left  12 the gateway's release (empty: not reported)
--       13 its uptime, s  14.. number, entry and device of each that joined, the numbers of those
--       that left, then in one argument, packed, of each device that was seen: its id, how long ago
--       in ms, why, its address, the role whose token it used, if it did, its name, and the client
--       id and platform of a native app; empty for what is not known
--
-- The presence hash holds: at (the beat it is from), count, seen (when, ms), applied (a number),
-- version and uptime (s) where reported; for each connection its number with its entry; `device:<id>` with how many that device has.
--
-- Returns {head, now ms, presence at, resync, changes as XRANGE gives them, presence version};
-- {"broken", key, tag at the head} where head and change log disagree

local number, tag = read_history(KEYS[3], KEYS[4])
if not number then return {'broken', tag} end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local beat, base = tonumber(ARGV[2]), tonumber(ARGV[3])
local FIXED = 13 -- the arguments after these are of changing number
local joined, left = tonumber(ARGV[10]), tonumber(ARGV[11])
local moved = false
local at = redis.pcall('HGET', KEYS[1], 'at')
if failed(at) then
  redis.call('DEL', KEYS[1])
  at = '0'
end
at = tonumber(at or '0') or 0

-- Commands are told of many things at once: one at a time, a full beat would hold Redis up.
local MOST = 2000

-- Run a command on words, MOST at a time; `call` gets a part and returns what Redis said to it.
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

-- Return the table that was packed; nil where it is none.
local function unpacked(value)
  local ok, table_ = pcall(cmsgpack.unpack, value)
  if ok and type(table_) == 'table' then return table_ end
end

-- Whether this is what is kept of a device that was seen.
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

-- Change how many connections each device has.
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
if type(version) ~= 'number' then -- what is there is none: one that nobody was told of goes on
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
    return failed(found) and {} or found -- an index that is none keeps nothing but sightings back
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
  if tag ~= ARGV[7] then resync = 1 end -- the log keeps the head's own entry, as was seen above
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
