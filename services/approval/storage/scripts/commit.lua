-- Carry out one commit, all or nothing. Everything that could fail is checked before the first
-- write, because Redis does not roll back a script when one of its commands fails.
--
-- KEYS  1 head  2 change log  3 audit log  4 decisions (sorted set)  5 paired devices (sorted set)
--       6 count of paired devices  7 marker: index of paired devices incomplete
--       8.. keys that the plan refers to by index
-- ARGV  1 the plan, a msgpack map; 2.. byte strings that the plan refers to by index
--   call        {key, answer, ttl ms} or nil: a call id seen before gets its first answer again
--   not_after   deadline in ms on this server's clock (0: none); after it nothing is done
--   anew        empty the change log first and number on above `beyond`: a new history
--   expects     list of {key, version}: what each record must begin with ("" for absent); a number
--               refers to a byte string
--   limits      list of {key, most, member}: sorted sets that must not grow beyond `most`
--   counted     list of paths (pending.lua) whose requests are counted after the writes
--   pending     a new request for which another one may have to give way, or nil: {device, path,
--               total, per_address, tag, counted, version, at_ms, kept_ms}: the limits of the list
--               and of an address; tag and `counted` of the displacement, as in `changes`; version of
--               the displaced device's record; time; how long the outcome is kept
--   writes      list of {command, key, {argument ...}}; a number refers to a byte string. Commands
--               are SET and DEL, which succeed for keys of any type, ZADD and ZREM
--   changes     list of {tag, body, audit, decision, counted}: changes to number and log;
--               `decision`: made by a person; `counted`: {counter, most, ttl ms, due, member,
--               score} or false: a source gets only `most` audit entries until the counter expires;
--               the first change without an entry adds `member` to the sorted set `due`
--   kept        {changes, audit entries, decisions}: maximum lengths of the logs
--   unreadable  version that a record of a wrong type counts as
--
-- Returns {outcome, number, tag, answer, tag before, displaced}. Outcomes: done, seen, late, conflict,
-- full (a limit is reached, and no request gives way); `broken` and `unreadable`, with the key in
-- place of the answer, if nothing could be done. Number and tag are those of the newest change after
-- the commit. `displaced`: {device, request id} of the request that gave way to the new one, which is
-- the first change of the commit; or nothing.

local plan = cmsgpack.unpack(ARGV[1])

if plan.call then
  local key = KEYS[plan.call[1]]
  local seen = redis.pcall('GET', key)
  if seen then
    local at, at_tag, answer
    if not failed(seen) then at, at_tag, answer = string.match(seen, '^(%d+):([^\n]*)\n(.*)$') end
    if not at then return {'unreadable', 0, '', key, ''} end
    return {'seen', tonumber(at), at_tag, answer, ''}
  end
end

local number, tag = read_history(KEYS[1], KEYS[2])
if not number then return {'broken', 0, '', tag, ''} end
local before = tag
local function refused(outcome, key) return {outcome, number, tag, key or '', ''} end

if plan.not_after > 0 then
  local time = redis.call('TIME')
  if tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) > plan.not_after then
    return refused('late')
  end
end

for _, expected in ipairs(plan.expects) do
  local key = KEYS[expected[1]]
  local value = redis.pcall('GET', key)
  local unreadable = failed(value)
  if unreadable then value = plan.unreadable end
  local version = type(expected[2]) == 'number' and ARGV[expected[2]] or expected[2]
  if string.sub(value or '', 1, 16) ~= version then
    return refused(unreadable and 'unreadable' or 'conflict', key)
  end
end

-- Sizes of the sorted sets that the plan uses, each read once.
local members = {}
local function no_sorted_set(key)
  if members[key] then return false end
  local count = redis.pcall('ZCARD', key)
  members[key] = count
  return failed(count)
end

for _, limit in ipairs(plan.limits) do
  local key = KEYS[limit[1]]
  if no_sorted_set(key) then return refused('broken', key) end
  if members[key] >= limit[2] and not redis.call('ZSCORE', key, limit[3]) then
    return refused('full')
  end
end
for _, path in ipairs(plan.counted) do
  local key = broken_count(path)
  if key then return refused('broken', key) end
end
local displaced
if plan.pending then
  local why, key
  displaced, why, key = find_displaced(plan.pending)
  if why then return refused(why, key) end
  if displaced then
    local new = plan.pending
    local body, entry = displaced_change(displaced, new)
    ARGV[#ARGV + 1] = body
    ARGV[#ARGV + 1] = entry
    table.insert(plan.changes, 1, {new.tag, #ARGV - 1, #ARGV, false, new.counted})
  end
end
for _, write in ipairs(plan.writes) do
  local key = KEYS[write[2]]
  if (write[1] == 'ZADD' or write[1] == 'ZREM') and no_sorted_set(key) then
    return refused('broken', key)
  end
end
local counts, counters = {}, {}
for i, change in ipairs(plan.changes) do
  if change[4] and no_sorted_set(KEYS[4]) then return refused('broken', KEYS[4]) end
  local counted = change[5]
  if counted then
    local key = KEYS[counted[1]]
    local value = redis.pcall('GET', key)
    if failed(value) or not string.match(value or '0', '^%d%d?%d?%d?%d?%d?%d?%d?%d?$') then
      return refused('broken', key)
    end
    counters[key] = (counters[key] or tonumber(value or '0')) + 1
    counts[i] = counters[key]
    if counts[i] > counted[2] and no_sorted_set(KEYS[counted[4]]) then
      return refused('broken', KEYS[counted[4]])
    end
  end
end

-- From here on the commit succeeds, unless the audit log rejects the number of the first entry.
-- Audit entries are written first, and only the first of them can fail.

local first = math.max(number, plan.beyond)
for i, change in ipairs(plan.changes) do
  local counted = change[5]
  local told = not counted or counts[i] <= counted[2]
  if told then
    local added = redis.pcall('XADD', KEYS[3], 'MAXLEN', plan.kept[2],
      string.format('%.0f-0', first + i), 'entry', ARGV[change[3]], 'tag', change[1])
    if failed(added) then
      if string.find(added.err, 'WRONGTYPE') then return refused('broken', KEYS[3]) end
      if not string.find(added.err, 'smaller') then return added end
      return {'broken', number, before, KEYS[3], 'ahead'}
    end
  end
  if counted then
    if redis.call('INCR', KEYS[counted[1]]) == 1 then
      redis.call('PEXPIRE', KEYS[counted[1]], counted[3])
    end
    if not told then redis.call('ZADD', KEYS[counted[4]], counted[6], counted[5]) end
  end
end

if plan.anew then redis.call('DEL', KEYS[2]) end
for i, change in ipairs(plan.changes) do
  local entry = {KEYS[2], 'MAXLEN', plan.kept[1], string.format('%.0f-0', first + i),
    'tag', change[1], 'previous', tag, 'body', ARGV[change[2]]}
  if failed(redis.pcall('XADD', unpack(entry))) then
    -- The log once held entries above the head, since deleted. Emptying it makes gateways resync.
    redis.call('DEL', KEYS[2])
    redis.call('XADD', unpack(entry))
  end
  tag = change[1]
end

if displaced then displace(displaced, plan.pending) end
local paired = 0 -- change in the number of indexed devices
for _, write in ipairs(plan.writes) do
  local key = KEYS[write[2]]
  local command = {write[1], key}
  for _, argument in ipairs(write[3]) do
    command[#command + 1] = type(argument) == 'number' and ARGV[argument] or argument
  end
  local moved = redis.call(unpack(command))
  if key == KEYS[5] then
    if write[1] == 'ZADD' then paired = paired + moved end
    if write[1] == 'ZREM' then paired = paired - moved end
  end
end

for _, path in ipairs(plan.counted) do count_requests(path) end
if displaced then count_requests(displaced.path) end

for i, change in ipairs(plan.changes) do
  if change[4] then
    redis.call('ZADD', KEYS[4], string.format('%.0f', first + i),
      string.format('%.0f:%s\n', first + i, change[1]) .. ARGV[change[3]])
    members[KEYS[4]] = members[KEYS[4]] + 1
  end
end
local over = (members[KEYS[4]] or 0) - plan.kept[3]
if over > 0 then redis.call('ZREM', KEYS[4], unpack(redis.call('ZRANGE', KEYS[4], 0, over - 1))) end

if #plan.changes > 0 then
  number = first + #plan.changes
  redis.call('SET', KEYS[1], string.format('%.0f:%s', number, tag))
end

-- Only commits change the index. If its size differs from the count, the index was lost, for
-- instance by eviction, and has to be rebuilt from the records.
if paired ~= 0 then
  local counted = redis.pcall('GET', KEYS[6])
  if counted and counted ~= string.format('%.0f', members[KEYS[5]]) then
    redis.call('SET', KEYS[7], '1')
  end
  redis.call('SET', KEYS[6], string.format('%.0f', members[KEYS[5]] + paired))
end

if plan.call then
  redis.call('SET', KEYS[plan.call[1]],
    string.format('%.0f:%s\n', number, tag) .. ARGV[plan.call[2]], 'PX', plan.call[3])
end
local gone = displaced
  and {displaced.device, displaced.record.pending.request_id} or nil
return {'done', number, tag, '', before, gone}
