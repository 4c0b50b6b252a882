/** The helpers' map operations for maps that are not known before run time: they look at the type in the map's header. */
import type { Routine } from '../../isa/routine.ts';
import { MapHeader, RunContext } from '../../memory/layout.ts';
import type { MapType } from '../../object/spec.ts';
import { ERRNO } from '../errors.ts';
import { familyOf } from '../families.ts';
import { MAP_TYPE } from '../uapi.ts';

const STORES: readonly MapType[] = [
  'hash',
  'array',
  'percpu_hash',
  'percpu_array',
  'lru_hash',
  'lru_percpu_hash',
  'lpm_trie',
  'prog_array',
];
/** Programs read these and the next, but can't change them. */
const TARGETS: readonly MapType[] = ['devmap', 'devmap_hash', 'cpumap', 'xskmap', 'perf_event_array'];
const MAPS: readonly MapType[] = ['array_of_maps', 'hash_of_maps'];
const PUSHED: readonly MapType[] = ['queue', 'stack', 'bloom_filter'];
const PER_CPU: readonly MapType[] = ['percpu_hash', 'percpu_array', 'lru_percpu_hash'];

function dispatch(name: string, types: readonly MapType[], operation: string, otherwise: number): Routine {
  const cases = types.map(type => `  if r0 == ${MAP_TYPE[type]} goto ${type}`);
  const calls = types.map(type => `${type}:\n  call routine ${familyOf(type)}_${operation}\n  exit`);
  return {
    name,
    text: `
  r0 = *(u32 *)(r1 + ${MapHeader.type})
${cases.join('\n')}
  r0 = ${otherwise}
  exit
${calls.join('\n')}`,
  };
}

export const GENERIC_ROUTINES: readonly Routine[] = [
  {
    // Of the one cgroup there is: see maps/cgroup-storage.ts.
    name: 'bpf_get_local_storage',
    text: `
  r0 = run_context
  r0 = *(u32 *)(r0 + ${RunContext.cpu})
  r2 = *(u64 *)(r1 + ${MapHeader.cpuStride})
  r0 *= r2
  r2 = *(u64 *)(r1 + ${MapHeader.values})
  r0 += r2
  exit`,
  },
  dispatch('bpf_map_lookup_elem', [...STORES, ...TARGETS, ...MAPS], 'lookup', 0),
  dispatch('bpf_map_update_elem', STORES, 'update', -ERRNO.EOPNOTSUPP),
  dispatch('bpf_map_delete_elem', STORES, 'delete', -ERRNO.EOPNOTSUPP),
  dispatch('bpf_map_lookup_percpu_elem', PER_CPU, 'lookup_percpu', 0),
  dispatch('bpf_map_push_elem', PUSHED, 'push', -ERRNO.EOPNOTSUPP),
  dispatch('bpf_map_pop_elem', PUSHED, 'pop', -ERRNO.EOPNOTSUPP),
  dispatch('bpf_map_peek_elem', PUSHED, 'peek', -ERRNO.EOPNOTSUPP),
];
