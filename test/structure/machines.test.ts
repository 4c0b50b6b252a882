/** Tests of the rooms that run on every machine ask what a machine can do, not which one it is. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOMS } from '../qemu/suite.ts';

const TESTS = join(import.meta.dirname, '..');

test('no test of the emulated suite is for x86-64 alone', () => {
  const files = ROOMS.filter(room => room !== 'jit').flatMap(room =>
    readdirSync(join(TESTS, room), { recursive: true, encoding: 'utf8' })
      .filter(name => name.endsWith('.ts'))
      .map(name => join(room, name)),
  );
  expect(files.length).toBeGreaterThan(50);
  expect(files.filter(file => /process\.arch [!=]== 'x64'/.test(readFileSync(join(TESTS, file), 'utf8')))).toEqual([]);
});
