-- A new, non-empty value starts a new run; the time is always new. A run must not start already cancelled or suspended.
local os = require("os")
obj.spec.redrive = os.date("!%Y-%m-%dT%H:%M:%SZ")
if obj.spec.cancel then obj.spec.cancel = false end
if obj.spec.suspend then obj.spec.suspend = false end
return obj
