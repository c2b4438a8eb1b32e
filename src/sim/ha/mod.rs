//! High availability under faults: manager, agents, hosts, fence devices, operators.
