${words.many.capitalize()}: the table `${words.plural}` and `${words.model}Repository`.
