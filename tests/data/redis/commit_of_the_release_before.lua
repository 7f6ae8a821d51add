-- commit.lua of the release before this one, as it runs beside ours during a rolling upgrade.
-- One commit: all of it or nothing.
--
-- KEYS  1 head  2 change log  3 audit log  4.. the keys that the plan names by their place here
-- ARGV  1 the plan, a msgpack map; 2.. bytes that the plan names by their place here
--   call        {key, answer, ttl ms} or nil: a call id that was seen gets its first answer back
--   not_after   ms on this server's clock, 0 for never: what comes later is not done
--   beyond      the changes get numbers above this one: a new history begins
--   expects     list of {key, version}: what each record must begin with ("" for absent)
--   limits      list of {key, most, member}: sorted sets that must not grow beyond `most`
--   writes      list of {command, key, {argument ...}}; a number stands for the bytes in that place
--   changes     list of {tag, body, audit}: what is numbered, logged and told
--   kept        {changes, audit entries}: how much of the logs is kept
--
-- Returns {outcome, number, tag, answer, tag before}; outcome: done, seen, late, conflict, full.
-- Number and tag are those of the newest change after all this.

local plan = cmsgpack.unpack(ARGV[1])

local head = redis.call('GET', KEYS[1]) or '0:'
local number, tag = string.match(head, '^(%d+):(.*)$')
number = tonumber(number)
local before = tag

if plan.call then
  local seen = redis.call('GET', KEYS[plan.call[1]])
  if seen then
    local at, at_tag, answer = string.match(seen, '^(%d+):([^\n]*)\n(.*)$')
    return {'seen', tonumber(at), at_tag, answer, ''}
  end
end

if plan.not_after > 0 then
  local time = redis.call('TIME')
  if tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) > plan.not_after then
    return {'late', number, tag, '', ''}
  end
end

for _, expected in ipairs(plan.expects) do
  local value = redis.call('GET', KEYS[expected[1]])
  if string.sub(value or '', 1, 16) ~= expected[2] then
    return {'conflict', number, tag, '', ''}
  end
end

for _, limit in ipairs(plan.limits) do
  local key, most, member = KEYS[limit[1]], limit[2], limit[3]
  if redis.call('ZCARD', key) >= most and not redis.call('ZSCORE', key, member) then
    return {'full', number, tag, '', ''}
  end
end

for _, write in ipairs(plan.writes) do
  local command = {write[1], KEYS[write[2]]}
  for _, argument in ipairs(write[3]) do
    command[#command + 1] = type(argument) == 'number' and ARGV[argument] or argument
  end
  redis.call(unpack(command))
end

number = math.max(number, plan.beyond)
for _, change in ipairs(plan.changes) do
  number = number + 1
  local id = string.format('%.0f-0', number)
  redis.call('XADD', KEYS[2], 'MAXLEN', plan.kept[1], id,
    'tag', change[1], 'previous', tag, 'body', ARGV[change[2]])
  redis.call('XADD', KEYS[3], 'MAXLEN', plan.kept[2], id,
    'entry', ARGV[change[3]], 'tag', change[1])
  tag = change[1]
end
if #plan.changes > 0 then
  redis.call('SET', KEYS[1], string.format('%.0f:%s', number, tag))
end

if plan.call then
  redis.call('SET', KEYS[plan.call[1]],
    string.format('%.0f:%s\n', number, tag) .. ARGV[plan.call[2]], 'PX', plan.call[3])
end
return {'done', number, tag, '', before}
