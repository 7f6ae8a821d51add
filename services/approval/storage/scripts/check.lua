-- Check the history keys, the sorted sets and the index of paired devices.
--
-- KEYS  1 head  2 change log  3 audit log  4 decisions  5 paired devices  6 count of paired devices
--       7 marker: index incomplete  8 marker: time and cause of a lost history
--       9.. further sorted sets
-- ARGV  1 empty to check; `begin`: a rebuild of the index starts; `indexed`: it has finished
--       2 token of the rebuild: if the index is lost again meanwhile, the marker has another value
--       and the index is rebuilt once more
--
-- Returns {key inconsistent with the history or '', tag of the head, whether the audit log is
-- inconsistent: 1 or 0, marker of a lost history or '', whether the index is incomplete: 1 or 0,
-- keys of sorted sets with a wrong type ...}

local number, tag = read_history(KEYS[1], KEYS[2])
local sets, trouble = {4, 5}, {}
for i = 9, #KEYS do sets[#sets + 1] = i end
for _, i in ipairs(sets) do
  if failed(redis.pcall('ZCARD', KEYS[i])) then trouble[#trouble + 1] = KEYS[i] end
end
local paired = redis.pcall('ZCARD', KEYS[5])
local counted = redis.pcall('GET', KEYS[6])
local doing = redis.pcall('GET', KEYS[7])
local incomplete = doing and true or false
if not failed(paired) then
  paired = string.format('%.0f', paired)
  if ARGV[1] == 'begin' then
    redis.call('SET', KEYS[6], paired)
    redis.call('SET', KEYS[7], ARGV[2])
    incomplete = true
  elseif ARGV[1] == 'indexed' and doing == ARGV[2] and counted == paired then
    redis.call('DEL', KEYS[7])
    incomplete = false
  elseif failed(counted) or (counted and counted ~= paired) then
    incomplete = true
  end
end
local ahead = redis.pcall('XRANGE', KEYS[3],
  string.format('%.0f-0', (number or 0) + 1), '+', 'COUNT', 1)
local audit = failed(ahead) or (number and #ahead > 0)
local mark = redis.pcall('GET', KEYS[8])
if failed(mark) or not mark then mark = '' end
return {number and '' or tag, number and tag or '', audit and 1 or 0, mark, incomplete and 1 or 0,
  unpack(trouble)}
