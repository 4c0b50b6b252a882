import { nativePlatform } from './computer.ts';
import { callsSuite } from './suites/calls.ts';

callsSuite(nativePlatform);
