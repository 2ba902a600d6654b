`/${words.path}`: a user's ${words.many}${f", each {unique.words} once" if unique else ""}: added, listed, shown, changed, deleted.
