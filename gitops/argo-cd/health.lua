-- Health of a LongTask in Argo CD. It follows kstatus (integer observedGeneration, Stalled) and the task's own conditions.
--
--   Progressing  not seen yet, queued, running, in backoff, being cancelled
--   Suspended    spec.suspend is true and the task is not finished
--   Healthy      succeeded, or cancelled: what the user asked for is done
--   Degraded     failed, or it cannot be admitted as it is (condition Stalled)
--
-- Argo CD offers only the base and table libraries here.

local status = obj.status or {}
local generation = obj.metadata.generation

-- The CRD's default is -1: the operator has not looked at this object yet.
if status.observedGeneration == nil or status.observedGeneration < 0 then
  return { status = "Progressing", message = "Waiting for the operator" }
end
if generation ~= nil and status.observedGeneration ~= generation then
  return { status = "Progressing", message = "Waiting for the operator to see the latest change" }
end

local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end

local function is(kind, value)
  return conditions[kind] ~= nil and conditions[kind].status == value
end

local function text(kind)
  local condition = conditions[kind]
  if condition == nil then return "" end
  if condition.message == nil or condition.message == "" then return condition.reason or "" end
  return condition.message
end

if is("Finished", "True") then
  if is("Succeeded", "True") or conditions.Succeeded ~= nil and conditions.Succeeded.reason == "Cancelled" then
    return { status = "Healthy", message = text("Succeeded") }
  end
  return { status = "Degraded", message = text("Succeeded") }
end
if obj.spec ~= nil and obj.spec.suspend == true then
  return { status = "Suspended", message = "spec.suspend is true" }
end
if is("Stalled", "True") then
  return { status = "Degraded", message = text("Stalled") }
end
return { status = "Progressing", message = text("Succeeded") }
