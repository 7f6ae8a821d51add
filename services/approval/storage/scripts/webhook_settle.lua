-- Record the outcome of an attempt to deliver the first notification of a queue.
--
-- KEYS  1 lease  2 state  3 queue  4 hash of the target
-- ARGV  1 the caller's lease  2 the notification if it leaves the queue, or empty
--       3 how long the target's keys are kept, ms  4 JSON object: fields to set
--       5 JSON object: counters, and what to add to each
--       6 a notification to append, or empty
--
-- Returns `done`, or `fenced` if another replica holds the lease.

if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 'fenced' end
if type(redis.pcall('HGET', KEYS[4], 'missed')) == 'table' then redis.call('DEL', KEYS[4]) end
for field, value in pairs(cjson.decode(ARGV[4])) do redis.call('HSET', KEYS[4], field, value) end
for field, by in pairs(cjson.decode(ARGV[5])) do
  local value = tonumber(redis.call('HGET', KEYS[4], field) or '0') or 0
  redis.call('HSET', KEYS[4], field, string.format('%.0f', value + by))
end
if ARGV[2] ~= '' then redis.call('ZREM', KEYS[3], ARGV[2]) end
if ARGV[6] ~= '' then
  local sequence = (tonumber(redis.call('HGET', KEYS[2], 'seq') or '0') or 0) + 1
  redis.call('HSET', KEYS[2], 'seq', string.format('%.0f', sequence))
  redis.call('ZADD', KEYS[3], string.format('%.0f', sequence), ARGV[6])
end
redis.call('PEXPIRE', KEYS[3], ARGV[3])
redis.call('PEXPIRE', KEYS[4], ARGV[3])
return 'done'
