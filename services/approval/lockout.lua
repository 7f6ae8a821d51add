-- What an attempt to log in leaves behind (design §5, contract §12).
--
-- KEYS  1 the guard of one address  2 the mark of this call
-- ARGV  1 `fail` or `clear`  2 window ms  3 failures that lock  4 lock ms  5 call mark ttl ms
--       6 not after (ms on this server's clock, 0 for never: later, nothing is written)
--       7.. credential classes
--
-- The guard is a msgpack map: class -> {failures, since ms, locked until ms}. A failure is counted
-- once for its call; a success clears its class. Neither touches a class that is locked, whose lock
-- keeps no other from being counted.
-- Returns for how many ms the first of these classes that was locked before this attempt still is;
-- 0: none was; -1: it came too late.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local value = redis.call('GET', KEYS[1])
local guard = value and cmsgpack.unpack(value) or {}

local left = 0
local unlocked = {}
for i = 7, #ARGV do
  local entry = guard[ARGV[i]]
  if not entry or entry[3] <= now then
    unlocked[#unlocked + 1] = ARGV[i]
  elseif left == 0 then
    left = entry[3] - now
  end
end
if #unlocked == 0 then return left end
if tonumber(ARGV[6]) > 0 and now > tonumber(ARGV[6]) then return -1 end

if ARGV[1] == 'clear' then
  for _, class in ipairs(unlocked) do guard[class] = nil end
elseif redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[5]) then
  for _, class in ipairs(unlocked) do
    local entry = guard[class]
    if not entry or now - entry[2] >= tonumber(ARGV[2]) then entry = {0, now, 0} end
    entry[1] = entry[1] + 1
    if entry[1] >= tonumber(ARGV[3]) then entry = {0, now, now + tonumber(ARGV[4])} end
    guard[class] = entry
  end
end

if next(guard) then
  redis.call('SET', KEYS[1], cmsgpack.pack(guard), 'PX', tonumber(ARGV[2]) + tonumber(ARGV[4]))
else
  redis.call('DEL', KEYS[1])
end
return left
