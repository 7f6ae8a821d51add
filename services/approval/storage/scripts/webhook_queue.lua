-- Queue notifications for every target, all or nothing, and record how far they reach.
--
-- KEYS  1 lease  2 state  3.. queue and hash of each target
-- ARGV  1 the caller's lease, or empty for a notification that is not read from the logs
--       2 number and 3 end of lock-outs, as read: queue only if nobody else has queued since
--       4 number, 5 tag and 6 end of lock-outs to record  7 max. length of a queue
--       8 how long queues are kept, ms  9.. notifications: `W` (may be dropped first) or `K`, then
--       JSON
--
-- A full queue drops the oldest droppable notification, else the oldest, but never the first: it
-- may be on its way. Returns {outcome, number of dropped notifications of each target ...};
-- outcomes: done, fenced (another replica holds the lease), stale (queued already).

local from_logs = ARGV[1] ~= ''
if from_logs then
  if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return {'fenced'} end
  if redis.call('HGET', KEYS[2], 'number') ~= ARGV[2]
    or redis.call('HGET', KEYS[2], 'lockouts') ~= ARGV[3] then
    return {'stale'}
  end
end

-- The droppable notifications to remove from a queue that is `over` its limit.
local function droppable(key, over)
  local found, from = {}, 1
  while #found < over do
    local part = redis.call('ZRANGE', key, from, from + 99)
    for _, member in ipairs(part) do
      if #found < over and string.sub(member, 1, 1) == 'W' then found[#found + 1] = member end
    end
    if #part < 100 then return found end
    from = from + 100
  end
  return found
end

local function drop(key, limit)
  local over = redis.call('ZCARD', key) - limit
  if over <= 0 then return 0 end
  local found = droppable(key, over)
  for i = 1, #found, 1000 do redis.call('ZREM', key, unpack(found, i, math.min(i + 999, #found))) end
  if #found < over then
    local rest = redis.call('ZRANGE', key, 1, over - #found)
    for i = 1, #rest, 1000 do redis.call('ZREM', key, unpack(rest, i, math.min(i + 999, #rest))) end
  end
  return over
end

local function count(key, field, by)
  local value = tonumber(redis.call('HGET', key, field) or '0') or 0
  redis.call('HSET', key, field, string.format('%.0f', value + by))
end

local sequence = tonumber(redis.call('HGET', KEYS[2], 'seq') or '0') or 0
local result = {'done'}
for i = 3, #KEYS, 2 do
  local numbered = sequence
  for j = 9, #ARGV do
    numbered = numbered + 1
    redis.call('ZADD', KEYS[i], string.format('%.0f', numbered), ARGV[j])
  end
  local dropped = drop(KEYS[i], tonumber(ARGV[7]))
  if dropped > 0 then
    count(KEYS[i + 1], 'dropped', dropped)
    count(KEYS[i + 1], 'missed', dropped)
    redis.call('PEXPIRE', KEYS[i + 1], ARGV[8])
  end
  redis.call('PEXPIRE', KEYS[i], ARGV[8])
  result[#result + 1] = dropped
end
redis.call('HSET', KEYS[2], 'seq', string.format('%.0f', sequence + math.max(0, #ARGV - 8)))
if from_logs then
  redis.call('HSET', KEYS[2], 'number', ARGV[4], 'tag', ARGV[5], 'lockouts', ARGV[6])
end
return result
