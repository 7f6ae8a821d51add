-- Counts what an attempt to log in guessed wrong, or forgets failures after a success.
--
-- KEYS  1 the guard of one address  2 the wrong values that came from it  3 the index of lock-outs
-- ARGV  1 `fail` or `clear`  2 window ms  3 failures that lock  4 lock ms
--       5 for how many ms a wrong value is remembered  6 how many of a class are remembered
--       7 not after (ms on this server's clock, 0 for never: later, nothing is written)
--       8 the address, as it stands in the index  9 1 if a right secret came beside the wrong ones
--       10.. for each class: its name, how many values, and the digests of these
--
-- The guard is a msgpack map: class -> {failures, since ms, locked until ms}. The wrong values are
-- 16 digits, other ones after each change of the guard, then a msgpack map: class -> digest -> when
-- it came last. A value that is still
-- remembered is no failure: whoever brings it has been told already that it is wrong. All new values
-- of an attempt must fit in what is left before the lock; if they do not, the attempt is answered by
-- the lock, none of them is remembered, and a right one beside them is not told apart. A class that
-- is locked is left alone; its lock keeps no other from being counted.
-- Returns for how many ms the first of these classes is locked for this attempt; 0: none is;
-- -1: the attempt came too late.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local window, most, lock = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local remembered, capacity = tonumber(ARGV[5]), tonumber(ARGV[6])
local not_after, beside = tonumber(ARGV[7]), tonumber(ARGV[9])

-- Return what is stored under a key; nothing for another type, which holds nothing of ours.
local function read(key)
  local value = redis.pcall('GET', key)
  return type(value) == 'string' and value
end

-- Return the table that was packed; nothing for what is none.
local function unpacked(value)
  local ok, found = pcall(cmsgpack.unpack, value)
  return ok and type(found) == 'table' and found
end

local packed = read(KEYS[1])
local guard = packed and unpacked(packed) or {}
for class, entry in pairs(guard) do
  for i = 1, 3 do
    if type(entry) ~= 'table' or type(entry[i]) ~= 'number' then guard[class] = nil end
  end
end

local attempts, open = {}, 0
local at = 10
while at <= #ARGV do
  local class, count = ARGV[at], tonumber(ARGV[at + 1])
  local entry = guard[class]
  local attempt = {class = class, left = math.max(0, (entry and entry[3] or 0) - now), values = {}}
  for i = 1, count do attempt.values[i] = ARGV[at + 1 + i] end
  if attempt.left == 0 then open = open + 1 end
  attempts[#attempts + 1] = attempt
  at = at + 2 + count
end

local function first_lock()
  for _, attempt in ipairs(attempts) do
    if attempt.left > 0 then return attempt.left end
  end
  return 0
end

if open == 0 then return first_lock() end
if not_after > 0 and now > not_after then return -1 end

local stored = read(KEYS[2])
local version = stored and tonumber(string.sub(stored, 1, 16))
local wrong = version and unpacked(string.sub(stored, 17)) or {}
version = version and version + 1 or now * 1000
for class, known in pairs(wrong) do
  if type(known) ~= 'table' then known = {} end
  for value, last in pairs(known) do
    if type(last) ~= 'number' then known[value] = nil end
  end
  wrong[class] = known
end
local index = redis.pcall('ZCARD', KEYS[3])
if type(index) == 'table' then redis.call('DEL', KEYS[3]) end

local function keep()
  if next(guard) then
    redis.call('SET', KEYS[1], cmsgpack.pack(guard), 'PX', window + lock)
  else
    redis.call('DEL', KEYS[1])
  end
  local values = next(wrong) and cmsgpack.pack(wrong) or '\128'
  redis.call('SET', KEYS[2], string.format('%016.0f', version) .. values, 'PX', remembered)
end

if ARGV[1] == 'clear' then
  for _, attempt in ipairs(attempts) do
    if attempt.left == 0 then guard[attempt.class] = nil end
  end
  keep()
  return first_lock()
end

local changed, locks = false, false

for _, attempt in ipairs(attempts) do
  if attempt.left == 0 then
    local class = attempt.class
    local known, fresh = wrong[class] or {}, {}
    for _, value in ipairs(attempt.values) do
      local last = known[value]
      if not last or now - last >= remembered then
        fresh[#fresh + 1] = value
      elseif now - last >= window then
        known[value] = now
        changed = true
      end
    end
    if #fresh > 0 then
      changed = true
      local entry = guard[class]
      if not entry or now - entry[2] >= window then entry = {0, now, 0} end
      if entry[1] + #fresh + beside > most then
        entry = {most, now, now + lock}
        attempt.left = lock
      else
        for _, value in ipairs(fresh) do known[value] = now end
        wrong[class] = known
        entry[1] = entry[1] + #fresh
        if entry[1] >= most then entry = {entry[1], now, now + lock} end
      end
      guard[class] = entry
      if entry[3] > now then
        locks = true
        redis.call('ZADD', KEYS[3], entry[3], class .. ' ' .. ARGV[8])
      end
    end
  end
end

if changed then
  for class, known in pairs(wrong) do
    local kept = {}
    for value, last in pairs(known) do
      if now - last < remembered then kept[#kept + 1] = {last, value} end
    end
    table.sort(kept, function(a, b)
      if a[1] ~= b[1] then return a[1] > b[1] end
      return a[2] > b[2]
    end)
    local left = {}
    for i = 1, math.min(#kept, capacity) do left[kept[i][2]] = kept[i][1] end
    wrong[class] = next(left) and left or nil
  end
  keep()
end
if locks then
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
  redis.call('PEXPIRE', KEYS[3], lock)
end
return first_lock()
