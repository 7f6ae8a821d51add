-- Functions shared by commit.lua, heartbeat.lua, repair.lua and check.lua; prepended to each of them.

-- Whether a reply is an error, for instance because the key has a wrong type.
local function failed(reply) return type(reply) == 'table' and reply.err ~= nil end

-- Return number and tag of the newest change, or nil and the inconsistent key. The last entry of
-- the change log must be the head's own; otherwise history was lost.
local function read_history(head_key, log_key)
  local head = redis.pcall('GET', head_key)
  if failed(head) then return nil, head_key end
  local number, tag = string.match(head or '0:', '^(%d+):(.*)$')
  if not number or #number > 16 then return nil, head_key end
  local found = redis.pcall('XRANGE', log_key, number .. '-0', '+', 'COUNT', 2)
  if failed(found) then return nil, log_key end
  if tonumber(number) == 0 then
    if head or #found > 0 then return nil, head_key end
  elseif #found ~= 1 or found[1][1] ~= number .. '-0' or found[1][2][2] ~= tag then
    return nil, log_key
  end
  return tonumber(number), tag
end

