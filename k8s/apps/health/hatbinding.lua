-- What Argo CD shows of a HatBinding.
--
-- Healthy is a hat that is worn with its whole authority. A request that is held waits for time or room (Progressing), for a
-- person (Suspended), or for a mistake to be mended (Degraded). A reason that is in no list is Unknown, never Healthy.
local waits = { Cooldown = true, NewHats = true, MaxWearers = true, Unschedulable = true }
local asks = { Quorum = true, Verdict = true }
local errs = {
  Policy = true, HatExists = true, Identity = true, SupervisorCycle = true, Conflict = true, MaxBindings = true, Succession = true,
}

local function health(status, message)
  return { status = status, message = message }
end

local function condition(status, name)
  for _, condition in ipairs(status.conditions or {}) do
    if condition.type == name then
      return condition
    end
  end
end

local function worn(status)
  local place = status.nodeName and ("worn on " .. status.nodeName) or "worn"
  return status.expiresAt and (place .. " until " .. status.expiresAt) or place
end

local status = obj.status
if obj.metadata.deletionTimestamp then
  return health("Progressing", "the hat is being taken off")
end
if not status then
  return health("Progressing", "no operator has looked at the request yet")
end

local phase = status.phase
if phase == "Active" then
  return health("Healthy", worn(status))
elseif phase == "Warmup" then
  return health("Progressing", "reading authority until " .. (status.warmupEndsAt or "the warmup ends"))
elseif phase == "Probation" then
  return health("Degraded", "on probation: reading authority until a supervisor restores it")
elseif phase == "Revoked" then
  return health("Degraded", "revoked by a supervisor")
elseif phase == "Expired" then
  return health("Suspended", "the term has ended: delete the binding and create it again to ask anew")
elseif phase == "Released" then
  return health("Progressing", "the hat was taken off")
elseif phase ~= "Pending" then
  return health("Unknown", "unknown phase " .. tostring(phase))
end

local admitted = condition(status, "Admitted")
if not admitted or admitted.status == "True" then
  return health("Progressing", "waits for the operator")
end
local message = admitted.reason .. ": " .. (admitted.message or "")
if waits[admitted.reason] then
  return health("Progressing", message)
elseif asks[admitted.reason] then
  return health("Suspended", message)
elseif errs[admitted.reason] then
  return health("Degraded", message)
end
return health("Unknown", message)
