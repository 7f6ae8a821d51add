-- One beat of a gateway, answered in one step (R2): its presence is written first, so that a Redis
-- that may no longer be written to answers nothing; then head and changes are read.
--
-- KEYS  1 the gateway's presence (hash)  2 gateways (sorted set)  3 head  4 change log
--       5 paired devices (sorted set)  6.. for each device that was seen, what is known of that
-- ARGV  1 boot id  2 beat id  3 the beat it builds on  4 connections  5 presence ttl, ms
--       6 applied number  7 applied tag  8 booted (1 or 0)  9 most changes
--       10 how many joined  11 how many left  12.. number, entry and device of each that joined,
--       the numbers of those that left, then of each device that was seen: its id, how long ago in
--       ms, why, its address, and the role whose token it used, if it did
--
-- The presence hash holds: at (the beat it is from), count, seen (when, ms), applied (a number);
-- for each connection its number with its entry; `device:<id>` with how many that device has.
--
-- Returns {head, now ms, presence at, resync, changes as XRANGE gives them}

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local beat, base = tonumber(ARGV[2]), tonumber(ARGV[3])
local joined, left = tonumber(ARGV[10]), tonumber(ARGV[11])
local at = tonumber(redis.call('HGET', KEYS[1], 'at') or '0')
local place = 12

if beat > at and (base == 0 or base == at) then
  if base == 0 then redis.call('DEL', KEYS[1]) end
  for i = place, place + 3 * joined - 1, 3 do
    if redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) == 1 then
      redis.call('HINCRBY', KEYS[1], 'device:' .. ARGV[i + 2], 1)
    end
  end
  place = place + 3 * joined
  for i = place, place + left - 1 do
    local entry = redis.call('HGET', KEYS[1], ARGV[i])
    if entry then
      redis.call('HDEL', KEYS[1], ARGV[i])
      local device = 'device:' .. cmsgpack.unpack(entry)[2]
      if redis.call('HINCRBY', KEYS[1], device, -1) < 1 then
        redis.call('HDEL', KEYS[1], device)
      end
    end
  end
  redis.call('HSET', KEYS[1], 'at', ARGV[2])
  at = beat
end
redis.call('HSET', KEYS[1], 'count', ARGV[4], 'seen', string.format('%.0f', now))
if ARGV[8] == '1' then redis.call('HSET', KEYS[1], 'applied', ARGV[6]) end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('ZADD', KEYS[2], string.format('%.0f', now + tonumber(ARGV[5])), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now))

place = 12 + 3 * joined + left
for key = 6, #KEYS do
  local device, age, why, address, role = unpack(ARGV, place, place + 4)
  place = place + 5
  if redis.call('ZSCORE', KEYS[5], device) then
    local held = redis.call('GET', KEYS[key])
    local seen = held and cmsgpack.unpack(held) or {at = 0}
    local when = now - tonumber(age)
    if when >= seen.at then
      seen.at, seen.why, seen.address = when, why, address
    end
    if role ~= '' then
      seen.used = seen.used or {}
      seen.used[role] = math.max(seen.used[role] or 0, when)
    end
    redis.call('SET', KEYS[key], cmsgpack.pack(seen))
  end
end

local head = redis.call('GET', KEYS[3]) or '0:'
local number, tag = string.match(head, '^(%d+):(.*)$')
local applied, resync = tonumber(ARGV[6]), 0

if ARGV[8] == '0' or applied > tonumber(number) then
  resync = 1
elseif applied > 0 then
  local known = redis.call('XRANGE', KEYS[4], ARGV[6] .. '-0', ARGV[6] .. '-0')[1]
  if not known or known[2][2] ~= ARGV[7] then resync = 1 end
elseif tonumber(number) > 0 then
  local first = redis.call('XRANGE', KEYS[4], '-', '+', 'COUNT', 1)[1]
  if not first or first[1] ~= '1-0' then resync = 1 end
end

local changes = {}
if resync == 0 and applied < tonumber(number) then
  changes = redis.call('XRANGE', KEYS[4], string.format('%.0f-0', applied + 1), '+',
    'COUNT', ARGV[9])
end
return {head, now, at, resync, changes}
