-- Take or renew the lease on delivering notifications, and read what has to be queued.
--
-- KEYS  1 lease  2 state  3 head  4 change log  5 audit log  6 index of lock-outs
--       7.. queue of each target
-- ARGV  1 this process  2 duration of the lease, ms  3 max. changes to return
--       4 how long the state is kept, ms  5 duration of a lock-out, ms
--
-- Fields of the state: fence (number of the last lease), seq (number of the last notification),
-- number and tag (change up to which notifications were queued), lockouts (end of the last
-- lock-out that was queued).
--
-- Returns {0, holder of the lease, number} or {1, lease, now ms, number, tag, lockouts, changes, audit
-- entries, lock-outs with their ends, {length, oldest} of each queue, whether the state is new, head}.
-- Changes begin with the one at `number`, so that the caller can compare the tag.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function read(field)
  local value = redis.pcall('HGET', KEYS[2], field)
  if type(value) == 'table' then
    redis.call('DEL', KEYS[2])
    return false
  end
  return value
end

local lease = redis.pcall('GET', KEYS[1])
if type(lease) == 'table' then lease = false end
if lease and string.match(lease, '^(.*):%d+$') ~= ARGV[1] then
  return {0, lease, tonumber(read('number') or '0') or 0}
end

if not lease then
  local fence = (tonumber(read('fence') or '0') or 0) + 1
  redis.call('HSET', KEYS[2], 'fence', string.format('%.0f', fence))
  lease = ARGV[1] .. ':' .. string.format('%.0f', fence)
end
redis.call('SET', KEYS[1], lease, 'PX', ARGV[2])

local head = redis.pcall('GET', KEYS[3])
if type(head) == 'table' then head = '?' elseif not head then head = '' end
local new = not (tonumber(read('number') or '') and tonumber(read('lockouts') or ''))
if new then
  local at, at_tag = string.match(head, '^(%d+):(.*)$')
  redis.call('HSET', KEYS[2], 'number', at or '0', 'tag', at_tag or '',
    'lockouts', string.format('%.0f', now + ARGV[5] - 1))
end
redis.call('PEXPIRE', KEYS[2], ARGV[4])
-- No lock-out ends later than this. If the clock was set back, new ones would be overlooked.
local latest = now + ARGV[5]
if not new and tonumber(read('lockouts')) > latest then
  redis.call('HSET', KEYS[2], 'lockouts', string.format('%.0f', latest - 1))
end
local number, tag, lockouts = read('number'), read('tag') or '', read('lockouts')

-- A list, whatever the key holds.
local function listed(...)
  local found = redis.pcall(...)
  return found.err and {} or found
end

local changes = listed('XRANGE', KEYS[4], number .. '-0', '+', 'COUNT', ARGV[3] + 1)
local entries = {}
if #changes > 0 then
  entries = listed('XRANGE', KEYS[5], changes[1][1], changes[#changes][1], 'COUNT', ARGV[3] + 1)
end
-- Lock-outs that start later in this millisecond have the same end, so they are left for later.
local locked = listed('ZRANGEBYSCORE', KEYS[6], '(' .. lockouts,
  '(' .. string.format('%.0f', now + ARGV[5]), 'WITHSCORES', 'LIMIT', 0, 100)

local queues = {}
for i = 7, #KEYS do
  local count = redis.pcall('ZCARD', KEYS[i])
  if type(count) == 'table' then
    redis.call('DEL', KEYS[i])
    count = 0
  end
  queues[#queues + 1] = {count, listed('ZRANGE', KEYS[i], 0, 0)[1] or ''}
end
return {1, lease, now, tonumber(number), tag, tonumber(lockouts), changes, entries, locked, queues,
  new and 1 or 0, head}
