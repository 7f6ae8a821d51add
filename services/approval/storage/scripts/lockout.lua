-- Count the wrong secrets of an attempt, or clear failures after a success.
--
-- KEYS  1 failure counts of the address  2 wrong values sent from it  3 index of lock-outs
-- ARGV  1 `fail` or `clear`  2 window, ms  3 failures that lock out  4 duration of a lock-out, ms
--       5 how long a wrong value is remembered, ms  6 max. values remembered per class
--       7 deadline in ms on this server's clock (0: none); after it nothing is written
--       8 the address as in the index  9 1 if the attempt also sent a correct secret
--       10.. for each class: its name, the number of values, and their digests
--
-- Failure counts are a msgpack map: class -> {failures, since ms, locked until ms}. Wrong values
-- are a version of 16 digits, increased with each change of the counts, followed by a msgpack map:
-- class -> digest -> last use, ms.
--
-- A remembered value is not counted: the client has already learned that it is wrong. All new
-- values of an attempt must fit within the failures left before the lock-out. If they do not, the
-- address is locked out, none of them is remembered, and a correct secret beside them gets the same
-- answer. Classes that are locked are skipped; the others are counted.
--
-- Returns for how many ms the first locked class is locked for this attempt (0: none is locked), or
-- -1 if the deadline has passed.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local window, most, lock = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local remembered, capacity = tonumber(ARGV[5]), tonumber(ARGV[6])
local not_after, beside = tonumber(ARGV[7]), tonumber(ARGV[9])

-- Return the value of a key; false if it has a wrong type.
local function read(key)
  local value = redis.pcall('GET', key)
  return type(value) == 'string' and value
end

-- Unpack a msgpack table; false if the value is not one.
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
