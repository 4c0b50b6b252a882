/** The plan of the house: who may import whom, and where the outside world begins. */
import { readdirSync, readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { dirname, join, posix, sep } from 'node:path';
import { describe, expect, test } from 'vitest';

const SRC = join(import.meta.dirname, '../../src');

/** A room imports from itself and from rooms above it. The bare names are files of `src` itself. */
const ORDER = [
  'errors.ts',
  'arguments.ts',
  'isa',
  'capture',
  'object',
  'memory',
  'maps',
  'verifier',
  'lowering',
  'jit',
  'interpreter',
  'helpers',
  'runtime',
  'runtime/native',
  'kernel',
  'core.ts',
  'index.ts',
  'cli',
];

/** Rooms that touch the machine: they alone import Node or packages. */
const OUTSIDE = new Set(['runtime/native', 'kernel', 'cli']);
/** The doors: what a user of the package sees, and all that the command line may use. */
const PUBLIC = new Set(['core.ts', 'index.ts']);

interface Import {
  readonly file: string;
  readonly room: string;
  readonly target: string;
}

function roomOf(file: string): string {
  const [first = '', second = ''] = file.split('/');
  return ORDER.includes(`${first}/${second}`) ? `${first}/${second}` : first;
}

function importsOf(text: string): string[] {
  const patterns = [
    /^(?:import|export)\b[^;]*?\bfrom\s+'([^']+)'/gm,
    /^import\s+'([^']+)'/gm,
    /\b(?:import|require)\(\s*'([^']+)'\s*\)/g,
  ];
  return patterns.flatMap(pattern => [...text.matchAll(pattern)].map(match => match[1]!));
}

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .map(name => name.split(sep).join('/'))
  .filter(name => name.endsWith('.ts'));

const imports: Import[] = files.flatMap(file =>
  importsOf(readFileSync(join(SRC, file), 'utf8')).map(target => ({ file, room: roomOf(file), target })),
);
const inside = imports
  .filter(({ target }) => target.startsWith('.'))
  .map(({ file, room, target }) => ({ file, room, target: posix.normalize(posix.join(dirname(file), target)) }));
const outside = imports.filter(({ target }) => !target.startsWith('.'));

test('every import was seen', () => {
  // A pattern that matches nothing would let everything pass.
  expect(files.length).toBeGreaterThan(100);
  expect(inside.length).toBeGreaterThan(300);
  expect(outside.map(({ target }) => target)).toEqual(
    expect.arrayContaining(['koffi', 'commander', 'iced-x86', 'node:fs']),
  );
  expect(inside).toContainEqual({ file: 'cli/main.ts', room: 'cli', target: 'cli/run.ts' });
});

test('every import names a file of the project, with its ending', () => {
  const known = new Set(files);
  expect(inside.filter(({ target }) => !known.has(target))).toEqual([]);
});

test('every room has its place in the order', () => {
  expect([...new Set(files.map(roomOf))].filter(room => !ORDER.includes(room))).toEqual([]);
});

describe.each(ORDER.filter(room => files.some(file => roomOf(file) === room)))('%s', room => {
  test('imports from itself and from above', () => {
    const place = ORDER.indexOf(room);
    const wrong = inside.filter(each => each.room === room && ORDER.indexOf(roomOf(each.target)) > place);
    expect(wrong).toEqual([]);
  });

  if (OUTSIDE.has(room)) return;
  test('knows neither Node nor packages', () => {
    expect(outside.filter(each => each.room === room)).toEqual([]);
  });
});

test('native execution is reached from what only the main entry has, so that core.ts runs anywhere', () => {
  const wrong = inside.filter(
    ({ room, target }) =>
      roomOf(target) === 'runtime/native' && !['runtime/native', 'kernel', 'index.ts'].includes(room),
  );
  expect(wrong).toEqual([]);
});

test('the command line uses the public API', () => {
  const wrong = inside.filter(({ room, target }) => room === 'cli' && roomOf(target) !== 'cli' && !PUBLIC.has(target));
  expect(wrong).toEqual([]);
});

test('Node modules are imported as node:', () => {
  expect(outside.filter(({ target }) => !target.startsWith('node:') && isBuiltin(target))).toEqual([]);
});

test('packages that are imported are dependencies', () => {
  const manifest = JSON.parse(readFileSync(join(SRC, '../package.json'), 'utf8'));
  const packages = outside.map(({ target }) => target).filter(target => !target.startsWith('node:'));
  expect(packages.filter(name => !(name in manifest.dependencies))).toEqual([]);
});
