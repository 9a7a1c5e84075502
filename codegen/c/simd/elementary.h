/* Elementary functions, written once in the words above. */
