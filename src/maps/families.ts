/** Types that share their routines: the name before the underscore in a routine's name. */
import type { MapType } from '../object/spec.ts';

const FAMILIES: Partial<Record<MapType, string>> = {
  devmap: 'target',
  cpumap: 'target',
  xskmap: 'target',
  perf_event_array: 'target',
  devmap_hash: 'hash',
  cgroup_storage: 'array',
  percpu_cgroup_storage: 'percpu_array',
};

/** The family of a type; most types are their own. */
export function familyOf(type: MapType): string {
  return FAMILIES[type] ?? type;
}

/** Values are one per CPU. */
export function isPerCpu(type: MapType): boolean {
  return type.includes('percpu_');
}

/** A full map evicts an element for a new one. */
export function isLru(type: MapType): boolean {
  return type.startsWith('lru_');
}
