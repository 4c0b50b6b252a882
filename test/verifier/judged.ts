import { expect } from 'vitest';
import type { Collection } from '../../src/object/spec.ts';
import { openJudge } from '../kernel/support.ts';
import { accepted, attempt } from './support.ts';

/**
 * Fails unless we accept a program exactly if its name does not begin with `bad_`, and the running kernel says the same, in the same words.
 * @param otherWords by name, the kernel's words where they differ, though the cause is the same
 */
export function expectKernelsVerdict(
  collection: Collection,
  name: string,
  otherWords: Readonly<Record<string, string>> = {},
): void {
  const program = collection.programs.get(name)!;
  const ours = attempt(program, { maps: collection.maps });
  expect(accepted(ours), accepted(ours) ? 'accepted' : ours.log.slice(-2000)).toBe(!name.startsWith('bad_'));
  const judge = openJudge(collection.maps, collection);
  if (judge === undefined) return;
  const theirs = judge.judge(program);
  judge.dispose();
  expect(theirs.accepted, theirs.log.slice(-500)).toBe(accepted(ours));
  if (accepted(ours)) return;
  expect(theirs.log).toContain(otherWords[name] ?? ours.text);
}
