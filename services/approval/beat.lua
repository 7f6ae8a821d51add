-- One beat of a gateway, answered in one step (R2): its presence is written first, so that a Redis
-- that may no longer be written to answers nothing; then head and changes are read.
--
-- KEYS  1 the gateway's presence (hash)  2 gateways (sorted set)  3 head  4 change log
-- ARGV  1 boot id  2 beat id  3 the beat it builds on  4 connections  5 presence ttl, ms
--       6 applied number  7 applied tag  8 booted (1 or 0)  9 most changes
--       10 how many joined, then number and entry of each, then the numbers of those that left
--
-- Returns {head, now ms, presence at, resync, changes as XRANGE gives them}

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local beat, base = tonumber(ARGV[2]), tonumber(ARGV[3])
local at = tonumber(redis.call('HGET', KEYS[1], 'at') or '0')

if beat > at and (base == 0 or base == at) then
  if base == 0 then redis.call('DEL', KEYS[1]) end
  local joined = tonumber(ARGV[10])
  for i = 1, joined do
    redis.call('HSET', KEYS[1], ARGV[9 + 2 * i], ARGV[10 + 2 * i])
  end
  for i = 11 + 2 * joined, #ARGV do redis.call('HDEL', KEYS[1], ARGV[i]) end
  redis.call('HSET', KEYS[1], 'at', ARGV[2])
  at = beat
end
redis.call('HSET', KEYS[1], 'count', ARGV[4], 'seen', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('ZADD', KEYS[2], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('(%.0f', now - tonumber(ARGV[5])))

local head = redis.call('GET', KEYS[3]) or '0:'
local number, tag = string.match(head, '^(%d+):(.*)$')
local applied, resync = tonumber(ARGV[6]), 0

if ARGV[8] == '0' or applied > tonumber(number) then
  resync = 1
elseif applied > 0 then
  local known = redis.call('XRANGE', KEYS[4], ARGV[6] .. '-0', ARGV[6] .. '-0')[1]
  if not known or known[2][2] ~= ARGV[7] then resync = 1 end
elseif tonumber(number) > 0 then
  local first = redis.call('XRANGE', KEYS[4], '-', '+', 'COUNT', 1)[1]
  if not first or first[1] ~= '1-0' then resync = 1 end
end

local changes = {}
if resync == 0 and applied < tonumber(number) then
  changes = redis.call('XRANGE', KEYS[4], string.format('%.0f-0', applied + 1), '+',
    'COUNT', ARGV[9])
end
return {head, now, at, resync, changes}
