import { x64Platform } from './computer.ts';
import { callsSuite } from './suites/calls.ts';

callsSuite(x64Platform);
