-- Start a new history if head and logs are inconsistent, or delete a key of a wrong type or without
-- a number. Does nothing if another replica has already repaired it.
--
-- KEYS  1 head  2 change log  3 audit log  4 decisions  5 marker: time and cause of a lost history
--       6 marker: index of paired devices incomplete  7 the damaged key
-- ARGV  1 expected kind of the key (history, zset, number) or damage: `ahead` (audit log that
--       rejects the next number), `unreadable` (change log with invalid entries)
--       2 tag found at the head  3 distance between the starts of histories
--       4 tag of the first change  5 its body  6 its audit entry  7 audit entries kept
--       8 TTL of the marker, ms  9 name of the key for the marker
--
-- Returns {what was done: nothing, dropped, begun or stuck; number of the first change}

local kind, key = ARGV[1], KEYS[7]

if kind == 'zset' or kind == 'number' then
  local broken
  if kind == 'zset' then
    broken = failed(redis.pcall('ZCARD', key))
  else
    local value = redis.pcall('GET', key)
    broken = failed(value) or (value and not string.match(value, '^%d+$'))
  end
  if not broken then return {'nothing', 0} end
  redis.call('DEL', key)
  redis.call('SET', KEYS[6], '1')
  return {'dropped', 0}
end

local number, tag = read_history(KEYS[1], KEYS[2])
local known = number
local lost = not number
if lost then
  local head = redis.pcall('GET', KEYS[1])
  known = not failed(head) and head and tonumber(string.match(head, '^(%d+):') or '') or 0
  if known > 2 ^ 52 then known = 0 end
end

if failed(redis.pcall('XRANGE', KEYS[3], '-', '+', 'COUNT', 1)) then
  redis.call('DEL', KEYS[3])
  if not lost then return {'dropped', 0} end
elseif not lost then
  local ahead = redis.call('XRANGE', KEYS[3], string.format('%.0f-0', number + 1), '+', 'COUNT', 1)
  lost = #ahead > 0 or ((kind == 'ahead' or kind == 'unreadable') and tag == ARGV[2])
end
if not lost then return {'nothing', 0} end

local apart = tonumber(ARGV[3])
local base = (math.floor(known / apart) + 1) * apart
while failed(redis.pcall('XADD', KEYS[3], 'MAXLEN', ARGV[7], string.format('%.0f-0', base + 1),
    'entry', ARGV[6], 'tag', ARGV[4])) do
  base = base * 2
  if base > 2 ^ 52 then return {'stuck', 0} end
end
local id = string.format('%.0f', base + 1)
redis.call('DEL', KEYS[2])
redis.call('XADD', KEYS[2], id .. '-0', 'tag', ARGV[4], 'previous', '', 'body', ARGV[5])
redis.call('SET', KEYS[1], id .. ':' .. ARGV[4])
if failed(redis.pcall('ZCARD', KEYS[4])) then redis.call('DEL', KEYS[4]) end
redis.call('ZADD', KEYS[4], id, id .. ':' .. ARGV[4] .. '\n' .. ARGV[6])
local time = redis.call('TIME')
redis.call('SET', KEYS[5], time[1] .. ':' .. ARGV[9], 'PX', ARGV[8])
return {'begun', base + 1}
