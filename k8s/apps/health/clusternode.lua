-- What Argo CD shows of a ClusterNode.
--
-- The worst that is known comes first. What could not be told is Unknown, never Healthy; a machine that a person cordoned or
-- banned is Suspended.
local function health(status, message)
  return { status = status, message = message }
end

local conditions = {}
for _, condition in ipairs((obj.status or {}).conditions or {}) do
  conditions[condition.type] = condition
end

local function is(name, status)
  return conditions[name] ~= nil and conditions[name].status == status
end

local function because(name)
  local condition = conditions[name]
  return condition.reason .. ": " .. (condition.message or "")
end

if obj.metadata.deletionTimestamp then
  return health("Progressing", "the machine is being removed")
end
if obj.spec.revoked then
  return health("Suspended", "banned by a person: spec.revoked")
end
if is("IdentityConflict", "True") then
  return health("Degraded", because("IdentityConflict"))
end
if not conditions.Ready then
  return health("Progressing", "the machine has not been seen yet")
end
if not is("Ready", "True") then
  return health("Degraded", because("Ready"))
end
for _, name in ipairs({ "DevicesHealthy", "AsExpected" }) do
  if is(name, "False") then
    return health("Degraded", because(name))
  end
end
for _, name in ipairs({ "DevicesHealthy", "AsExpected" }) do
  if is(name, "Unknown") then
    return health("Unknown", because(name))
  end
end
if obj.spec.unschedulable then
  return health("Suspended", "cordoned by a person: spec.unschedulable")
end
return health("Healthy", because("Ready"))
