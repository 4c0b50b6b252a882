/** Which programs of an object are wanted when some are asked for by name. */
import type { Collection, ProgramSpec } from './spec.ts';

/**
 * The programs asked for, and every program that the initial contents of a prog array they use would put in a slot; all
 * where none is asked for. In the order of the object.
 * @param missing called with a name that the object does not define; does not return
 */
export function selectPrograms(
  { programs, maps }: Pick<Collection, 'programs' | 'maps'>,
  names: readonly string[] | undefined,
  missing: (name: string, known: readonly string[]) => never,
): ProgramSpec[] {
  if (!names) return [...programs.values()];
  const chosen = new Set<string>();
  const queue = [...names];
  for (let name = queue.pop(); name !== undefined; name = queue.pop()) {
    if (chosen.has(name)) continue;
    const spec = programs.get(name) ?? missing(name, [...programs.keys()]);
    chosen.add(name);
    for (const insn of spec.insns) {
      if (insn.kind !== 'loadImm64' || insn.reference?.type !== 'map') continue;
      for (const entry of maps.get(insn.reference.map)?.contents ?? [])
        if ('program' in entry) queue.push(entry.program);
    }
  }
  return [...programs.values()].filter(({ name }) => chosen.has(name));
}
